"""What the original itself is sure of: the answers that it gives where its own rounding falls otherwise.

A program computes with rounding, so its output is known only up to some noise. That noise is measured by computing the
same in another way: in float64 where a model runs in float64, an ONNX graph without onnxruntime's own optimisations
as well, and any program on inputs that are moved by one unit in the last place of float32.

What it answers where inputs and weights are rounded as the artifact rounds them comes apart (`further`): that says
which of values that nearly tie is taken, and would excuse what half precision makes of a logarithm of something small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from builder.model.nudges import Nudge, Tensors, in_half, nudges, weights_about_half, weights_in_half
from builder.model.selections import Selections
from builder.model.substitutions.rewrite import copy_module

OtherAnswers = Callable[[int], Sequence[Tensors]]
"""From the number of a sample to the outputs of the original computed in other ways; empty where there is no other."""

FIRST = 5
"""So many moves of inputs come first, the others last."""
SELECTIONS = 12
"""So many times the values by which a model selects are moved."""

WEIGHTS = 8
"""So many times the weights of a graph are moved."""


@dataclass(frozen=True, kw_only=True)
class _Way:
    """A module, and how it is given a sample."""

    module: torch.nn.Module
    given: Nudge
    dtype: torch.dtype = torch.float32
    """What tensors have that the module's own code makes."""
    selections: Selections | None = None
    """What moves the values by which the module selects."""


class Uncertainty:
    """The other answers of one module for some samples; nothing is computed before it is asked for."""

    def __init__(
        self,
        module: torch.nn.Module,
        samples: Sequence[Tensors],
        states: Mapping[str, torch.Tensor],
        *,
        half: bool = False,
    ) -> None:
        """`states` are the values, before the first sample, of the buffers that a run changes, by path.

        `half` says that what is compared computes in half precision.
        """
        self._module, self._half = module, half
        self._samples = samples
        self._states = {path: value.clone() for path, value in states.items()}
        self._known: dict[int, list[Tensors]] = {}
        self._ways: list[_Way] = []
        self._further_ways: list[_Way] = []

    def __call__(self, index: int) -> Sequence[Tensors]:
        """The other answers for one sample; with states, those of a run over all samples up to it."""
        if not self._ways:
            self._ways = [_Way(module=self._module, given=_moved), *_otherwise(self._module)]
        if index not in self._known:
            answers = (self._answer(way, index) for way in self._ways)
            self._known[index] = [answer for answer in answers if answer is not None]
        return self._known[index]

    def further(self, index: int) -> Iterator[Tensors]:
        """The answers for one sample where inputs and weights are rounded otherwise, each made when it is asked for."""
        if not self._further_ways:
            moved = [_Way(module=self._module, given=nudge) for nudge in nudges(half=self._half)]
            rounded = [*_with_half_weights(self._module)] if self._half else []
            selected = [_selecting(self._module, seed, half=self._half) for seed in range(SELECTIONS)]
            # values that rounding makes equal tie as well
            tied = [replace(way, given=_in_half) for way in selected] if self._half else []
            first = [*moved[:2], *selected[:2], *tied[:2], *rounded, *moved[2:FIRST]]
            self._further_ways = [*first, *tied[2:], *selected[2:], *moved[FIRST:]]
        for way in self._further_ways:
            answer = self._answer(way, index)
            if answer is not None:
                yield answer
        for way in _with_moved_weights(self._module) if self._half else ():
            answer = self._answer(way, index)
            if answer is not None:
                yield answer

    def _answer(self, way: _Way, index: int) -> Tensors | None:
        """One answer; None where the module does not run this way, as where its code names a dtype."""
        answer: Any = None
        first = 0 if self._states else index
        try:
            with (
                torch.no_grad(),
                _computing_in(way.dtype),
                self._own_states(way.module),
                way.selections or nullcontext(),
            ):
                for number in range(first, index + 1):
                    answer = way.module(*way.given(self._samples[number], number))
        except Exception:  # whatever the user's own code raises; the other ways are left, and the difference itself
            return None
        if way.selections is not None and not way.selections.count:
            self._further_ways = [each for each in self._further_ways if each.selections is None]
            return None  # it selects nothing
        return tuple(answer)

    @contextmanager
    def _own_states(self, module: torch.nn.Module) -> Iterator[None]:
        """Begin with the first states, and leave those that there were."""
        buffers = dict(module.named_buffers(remove_duplicate=False)) if self._states else {}
        before = {path: buffers[path].clone() for path in self._states}
        for path, value in self._states.items():
            buffers[path].copy_(value)
        try:
            yield
        finally:
            for path, value in before.items():
                buffers[path].copy_(value)


def _otherwise(module: torch.nn.Module) -> Iterator[_Way]:
    """The same program with other rounding: the ways that this module has."""
    parts = [part for part in module.modules() if hasattr(part, "without_optimisations")]
    if not parts:
        try:
            other = copy_module(module, share_parameters=False).double()
        except Exception:  # what cannot be copied or computed in float64 has no other way
            return
        yield _Way(module=other, given=_as_double, dtype=torch.float64)
    for method in ("without_optimisations", "in_float64") if parts else ():
        try:
            other = copy_module(module, share_parameters=True)
            _replace_parts(other, method)
        except Exception:  # onnxruntime does not have every operator in float64
            continue
        yield _Way(module=other, given=lambda inputs, _: inputs)


def _selecting(module: torch.nn.Module, seed: int, *, half: bool) -> _Way:
    """The same program, which takes another one of values that nearly tie."""
    return _Way(module=module, given=lambda inputs, _: inputs, selections=Selections(seed, half=half))


def _replace_parts(module: torch.nn.Module, method: str, *arguments: object) -> None:
    """Put in the place of each part that has a method what the method makes of it."""
    for path, part in [(path, part) for path, part in module.named_modules() if hasattr(part, method)]:
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, getattr(part, method)(*arguments))


def _with_half_weights(module: torch.nn.Module) -> Iterator[_Way]:
    """The same program with weights rounded to half precision."""
    try:
        other = copy_module(module, share_parameters=False)
        with torch.no_grad():
            for value in {*other.parameters(), *other.buffers()}:
                if value.is_floating_point():
                    value.copy_(weights_in_half(value))
        _replace_parts(other, "with_weights", weights_in_half)
    except Exception:  # what cannot be copied or computed so has no other way
        return
    yield _Way(module=other, given=lambda inputs, _: inputs)


def _with_moved_weights(module: torch.nn.Module) -> Iterator[_Way]:
    """A graph with other weights, one at a time: what it selects inside cannot be moved, and ids have no rounding."""
    if not any(hasattr(part, "with_weights") for part in module.modules()):
        return
    for seed in range(WEIGHTS):
        try:
            other = copy_module(module, share_parameters=True)
            _replace_parts(other, "with_weights", partial(weights_about_half, seed=seed))
        except Exception:  # a graph that is too large for one message has no other weights
            return
        yield _Way(module=other, given=lambda inputs, _: inputs)


def _as_double(inputs: Tensors, _: int) -> Tensors:
    return tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)


def _in_half(inputs: Tensors, _: int) -> Tensors:
    return tuple(map(in_half, inputs))


def _moved(inputs: Tensors, index: int) -> Tensors:
    """Each value up or down by one unit in the last place, the same for one sample every time."""
    return tuple(_by_one_unit(tensor, index) for tensor in inputs)


def _by_one_unit(tensor: torch.Tensor, index: int) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor
    up = torch.rand(tensor.shape, generator=torch.Generator().manual_seed(index)) < 0.5
    return torch.nextafter(tensor, torch.where(up, torch.inf, -torch.inf).to(tensor.dtype))


@contextmanager
def _computing_in(dtype: torch.dtype) -> Iterator[None]:
    """Let the module's own code make tensors of this dtype, and ask for the limits of float32 in any case.

    A model that clamps at `torch.finfo(x.dtype).eps` would be another model in float64, not one with less rounding.
    """
    default, finfo = torch.get_default_dtype(), torch.finfo
    torch.set_default_dtype(dtype)
    torch.finfo = lambda dtype=None: finfo(torch.float32 if dtype in (None, torch.float64) else dtype)  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        torch.set_default_dtype(default)
        torch.finfo = finfo  # type: ignore[misc]
