"""Rewriting an exported program asks conditions of its sizes anew, as at a pad of `max(a, b) - a`, which may be 0."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_flatten

from builder.artifacts.stages import unguarded
from builder.errors import ConversionError
from builder.model.capture.conditions import MOST_COMPARED, Places, drop_conditions, environment_of, exceptions

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def enumerated(places: Places, shapes: Sequence[Sequence[Sequence[int]]]) -> Sequence[Mapping[Any, int]]:
    """The sizes that the app may choose together, by torch's symbol, where shapes of the inputs are enumerated."""
    allowed: list[dict[Any, int]] = [{} for _ in range(max(map(len, shapes), default=0))]
    for (place, axis), symbol in places.items():
        for sizes, shape in zip(allowed, shapes[place], strict=False):
            sizes[symbol] = shape[axis]
    return allowed


def check_rewritten(
    before: ExportedProgram,
    places: Places,
    after: ExportedProgram,
    names: Sequence[str],
    allowed: Sequence[Mapping[Any, int]] = (),
) -> None:
    """Take out the conditions of a rewritten program; raise ConversionError where one does not hold at some size.

    Sizes for which the program before raises an error count as little as in `check_conditions`; at a few others it is
    compared with the program after. `places` are the `open_sizes` of the program before, read then, and `names` those
    of the inputs.
    """
    if not places:
        drop_conditions(after)
        return
    answers_before, answers_after = _Answers(before), _Answers(after)
    for found in exceptions(environment_of(after), places, before.range_constraints, names, allowed=allowed):
        answers = {where: answers_before(sizes) for where, sizes in found.tried().items()}
        answered = {where: answer for where, answer in answers.items() if answer is not None}
        wrong = next(iter(answered), None)
        if found.are_all and len(answered) <= MOST_COMPARED:
            found_after = {where: answers_after(found.sizes[where]) for where in answered}
            wrong = next(
                (where for where, answer in answered.items() if not _is_same(found_after[where], answer)), None
            )
        if wrong or not found.are_all:
            raise ConversionError(
                f"torch's operators for the program take for true that {found.shown(wrong)}", code="B0401", key="input"
            )
    drop_conditions(after)


class _Answers:
    """What a program gives for inputs of some sizes: noise, and zeros where they are integers."""

    def __init__(self, program: ExportedProgram) -> None:
        self._program = program
        values = {node.name: node.meta.get("val") for node in program.graph.nodes}
        self._inputs: list[Any] = [values[name] for name in program.graph_signature.user_inputs]
        self._module: torch.nn.Module | None = None

    def __call__(self, sizes: Mapping[Any, int]) -> Sequence[torch.Tensor] | None:
        """The outputs; None where it raises an error."""
        generator = torch.Generator().manual_seed(0)
        given = []
        for value in self._inputs:
            shape = [sizes.get(s.node.expr, s.node.hint) if isinstance(s, torch.SymInt) else s for s in value.shape]
            noise = torch.randn(shape, generator=generator)
            given.append(noise.to(value.dtype) if value.is_floating_point() else torch.zeros(shape, dtype=value.dtype))
        if self._module is None or self._program.graph_signature.buffers_to_mutate:  # then each call has its own states
            self._module = unguarded(copy.deepcopy(self._program))
        try:
            with torch.no_grad():
                returned = self._module(*given)
        except Exception:  # whatever an operator raises for sizes that it was not made for
            return None
        return tree_flatten(returned)[0]


def _is_same(found: Sequence[torch.Tensor] | None, expected: Sequence[torch.Tensor]) -> bool:
    return found is not None and all(
        got.shape == wanted.shape and torch.allclose(got, wanted, rtol=1e-3, atol=1e-4, equal_nan=True)
        for got, wanted in zip(found, expected, strict=True)
    )
