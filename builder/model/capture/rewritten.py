"""Rewriting an exported program asks conditions of its sizes anew, as at a pad of `max(a, b) - a`, which may be 0."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_flatten

from builder.errors import ConversionError
from builder.model.capture.conditions import Places, drop_conditions, environment_of, exceptions

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def check_rewritten(before: ExportedProgram, places: Places, after: ExportedProgram, names: Sequence[str]) -> None:
    """Take out the conditions of a rewritten program; raise ConversionError where one does not hold at some size.

    Where few sizes break it the program is compared with the one before at each. `places` are its
    `open_sizes`, read then, and `names` those of the inputs.
    """
    if places:
        for found in exceptions(environment_of(after), places, before.range_constraints, names):
            if not found.are_few or any(_differs(before, after, sizes) for sizes in found.sizes.values()):
                raise ConversionError(
                    f"torch's operators for the program take for true that {found.shown}",
                    code="B0401",
                    key="input",
                )
    drop_conditions(after)


def _differs(before: ExportedProgram, after: ExportedProgram, sizes: Mapping[Any, int]) -> bool:
    """Whether the programs give other values for inputs of these sizes: noise, and zeros where they are integers."""
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for name in before.graph_signature.user_inputs:
        value = next(node.meta["val"] for node in before.graph.nodes if node.name == name)
        shape = [sizes.get(s.node.expr, s.node.hint) if isinstance(s, torch.SymInt) else s for s in value.shape]
        noise = torch.randn(shape, generator=generator)
        inputs.append(noise.to(value.dtype) if value.is_floating_point() else torch.zeros(shape, dtype=value.dtype))
    try:
        expected, found = (
            tree_flatten(copy.deepcopy(program).module(check_guards=False)(*inputs))[0] for program in (before, after)
        )
    except Exception:  # whatever an operator raises for sizes that it was not made for
        return True
    return not all(
        got.shape == wanted.shape and torch.allclose(got, wanted, rtol=1e-3, atol=1e-4, equal_nan=True)
        for got, wanted in zip(found, expected, strict=True)
    )
