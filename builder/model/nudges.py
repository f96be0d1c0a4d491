"""Inputs moved within the rounding with which an artifact takes them: what a model answers there it is not sure of.

Which of two equal values a model takes it does not say (`argmax`, `topk`, `sort`), and an artifact rounds values that
nearly tie to equal ones. Moves find the other answers: upwards and downwards along the elements, which brings the last
of equal values to the front and back again, and at random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from builder.util.measures import HALF_SMALLEST

Tensors = tuple[torch.Tensor, ...]
Nudge = Callable[[Tensors, int], Tensors]
"""Takes the inputs and the number of the sample."""

RANDOM = 12
"""So many moves are random. One finds the other of two equal values half of the time."""
SMALLEST = 1e-4
"""A value is moved by a unit in the last place of its own, or of this one where it is less."""


def nudges(*, half: bool) -> Iterator[Nudge]:
    """Moves of at most a unit in the last place: of float32, or of half precision, to which inputs are rounded then."""
    unit, rounded = (2.0**-11, in_half) if half else (2.0**-23, _as_it_is)
    if half:
        yield lambda inputs, _: tuple(map(rounded, inputs))
    # mypy cannot infer the type of a lambda that has a default
    for sign in (1, -1):
        yield lambda inputs, _, sign=sign: tuple(_moved(rounded(each), sign * _ramp(each), unit) for each in inputs)  # type: ignore[misc]
    for seed in range(RANDOM):
        yield lambda inputs, number, seed=seed: _at_random(inputs, unit, seed + RANDOM * number)  # type: ignore[misc]


def _at_random(inputs: Tensors, unit: float, seed: int) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return tuple(_moved(each, 2 * torch.rand(each.shape, generator=generator) - 1, unit) for each in inputs)


def _ramp(tensor: torch.Tensor) -> torch.Tensor:
    """From -1 for the first element to 1 for the last."""
    return torch.linspace(-1, 1, tensor.numel()).reshape(tensor.shape)


def _moved(tensor: torch.Tensor, by: torch.Tensor, unit: float) -> torch.Tensor:
    """The values moved; zeros, which every precision holds, stay: silence is silence."""
    if not tensor.is_floating_point():
        return tensor
    moved = tensor + (by * unit * tensor.abs().clamp(min=SMALLEST)).to(tensor.dtype)
    return torch.where(tensor == 0, tensor, moved)


def weights_in_half(tensor: torch.Tensor) -> torch.Tensor:
    """Weights rounded to half precision, but for what it holds with fewer bits or not at all: that is no rounding."""
    rounded, whole = tensor.half().to(tensor.dtype), (HALF_SMALLEST, torch.finfo(torch.half).max)
    return torch.where((tensor.abs() >= whole[0]) & (tensor.abs() <= whole[1]), rounded, tensor)


def weights_about_half(tensor: torch.Tensor, *, seed: int) -> torch.Tensor:
    """Weights moved at random by at most a unit in the last place of half precision, and rounded to it."""
    if not tensor.is_floating_point():
        return tensor
    return weights_in_half(_at_random((tensor,), 2.0**-10, seed)[0])


def in_half(tensor: torch.Tensor) -> torch.Tensor:
    """An input rounded to half precision, but for what it does not hold."""
    if not tensor.is_floating_point():
        return tensor
    rounded = tensor.half().to(tensor.dtype)
    return torch.where(rounded.isfinite(), rounded, tensor)


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
