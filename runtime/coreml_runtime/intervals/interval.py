"""The values that a tensor can have: bounds for all of it, or for each index of some of its axes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Sizes = tuple[int | None, ...]
"""A declared shape, None where a size varies."""

MOST = 4096
"""Bounds of so many elements are kept apart; larger ones are joined along their longest axes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ball:
    """Along the last axis (size n) the values are scale * u + offset with a vector u of at most `radius`.

    `scale` and `offset` are (n) or (), double. A product with a weight w is within w · offset ± radius |w * scale|.
    """

    radius: float
    scale: Tensor
    offset: Tensor


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a value measures of another along its last axis.

    Its `square`, the `mean` of its squares, the `root` of that with something added that is not negative, or the
    `inverse` of this root.
    """

    kind: Literal["square", "mean", "root", "inverse"]
    of: int
    """The token of the other value."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Interval:
    """Bounds `low` and `high`, double, of the rank of the tensor with sizes of 1 where all of an axis has the same.

    They hold of what is computed in float32, rounded to half or not, as long as no value before overflows.
    """

    low: Tensor
    high: Tensor
    sizes: Sizes
    nan: bool = False
    """Whether a value may not be a number."""
    reached: bool = False
    """Whether some input makes a value come as near to each bound as rounding allows."""
    sources: frozenset[str] | None = frozenset()
    """The inputs whose elements these depend on, each element on one of its own, so that every combination within the
    bounds is possible; None where elements depend on each other."""
    unit_axis: int | None = None
    """The axis, from the end (-1 is the last), along which the values are not negative and have the sum 1."""
    ball: Ball | None = None
    token: int | None = None
    """Which value of the program this is, but for rounding to another float."""
    measure: Measure | None = None

    @property
    def least(self) -> float:
        """The lower bound of all elements; infinite for a tensor without elements."""
        return float(self.low.min()) if self.low.numel() else math.inf

    @property
    def greatest(self) -> float:
        """The upper bound of all elements."""
        return float(self.high.max()) if self.high.numel() else -math.inf

    @property
    def magnitude(self) -> float:
        """The largest magnitude."""
        return max(abs(self.least), abs(self.greatest)) if self.low.numel() else 0.0

    def __contains__(self, value: float) -> bool:
        """Whether an element may have a value."""
        return bool(((self.low <= value) & (self.high >= value)).any())


def make(low: Tensor, high: Tensor, sizes: Sizes, *, nan: bool = False) -> Interval:
    """An interval of these bounds; a bound that is not a number says nothing, so it is infinite."""
    low, high = low.nan_to_num(-math.inf, math.inf, -math.inf), high.nan_to_num(math.inf, math.inf, -math.inf)
    rank = len(sizes)
    if low.dim() != rank:
        low, high = (each.reshape((1,) * (rank - each.dim()) + tuple(each.shape)) for each in (low, high))
    return _joined(Interval(low=low, high=high, sizes=sizes, nan=nan, sources=None))


def everywhere(low: float, high: float, sizes: Sizes, *, nan: bool = False) -> Interval:
    """One pair of bounds for all elements."""
    shape = (1,) * len(sizes)
    bounds = (torch.full(shape, float(bound), dtype=torch.float64) for bound in (low, high))
    return Interval(low=next(bounds), high=next(bounds), sizes=sizes, nan=nan, sources=None)


def anything(sizes: Sizes) -> Interval:
    """No knowledge."""
    return everywhere(-math.inf, math.inf, sizes, nan=True)


def of_constant(value: Tensor) -> Interval:
    """The interval of a known tensor."""
    if not value.numel():
        return everywhere(0.0, 0.0, tuple(value.shape))
    low = high = value.detach().to(torch.float64)
    nan = bool(low.isnan().any())
    found = _joined(Interval(low=low, high=high, sizes=tuple(value.shape), nan=nan, reached=True))
    return found if not nan else everywhere(-math.inf, math.inf, tuple(value.shape), nan=True)


def of_input(name: str, low: Tensor, high: Tensor, sizes: Sizes) -> Interval:
    """What an app gives: every combination of values within the bounds."""
    low, high = low.to(torch.float64), high.to(torch.float64)
    return Interval(low=low, high=high, sizes=sizes, reached=True, sources=frozenset({name}))


def as_interval(value: Interval | Tensor) -> Interval:
    """An operand, known or not."""
    return value if isinstance(value, Interval) else of_constant(value)


def hull(parts: Iterable[Interval], sizes: Sizes) -> Interval:
    """One pair of bounds for all that the parts can be."""
    found = [part for part in parts if part.low.numel()]
    if not found:
        return everywhere(0.0, 0.0, sizes)
    joined = everywhere(
        min(p.least for p in found), max(p.greatest for p in found), sizes, nan=any(p.nan for p in found)
    )
    return replace(joined, reached=all(part.reached for part in found))


def reduced(x: Interval, axes: Iterable[int]) -> Interval:
    """The same with one pair of bounds along these axes."""
    low, high = x.low, x.high
    for axis in axes:
        if low.shape[axis] != 1:
            low, high = low.amin(axis, keepdim=True), high.amax(axis, keepdim=True)
    return replace(x, low=low, high=high)


def _joined(x: Interval) -> Interval:
    """The interval with as few pairs of bounds as are kept."""
    while x.low.numel() > MOST:
        longest = max(range(x.low.dim()), key=lambda axis: x.low.shape[axis])
        x = reduced(x, [longest])
    return x


def widened(x: Interval, relative: float, absolute: float = 0.0, *, keeps_sign: bool = True) -> Interval:
    """Bounds moved outwards by rounding errors; past zero only where the computation may get a sign wrong."""
    down = x.low - x.low.abs() * relative - absolute
    up = x.high + x.high.abs() * relative + absolute
    down, up = torch.where(x.low.isinf(), x.low, down), torch.where(x.high.isinf(), x.high, up)
    if keeps_sign:
        down = torch.where(x.low >= 0, down.clamp(min=0.0), down)
        up = torch.where(x.high <= 0, up.clamp(max=0.0), up)
    return replace(x, low=down, high=up)


def limited(x: Interval, least: float, most: float) -> Interval:
    """The bounds within what the operator can give at all."""
    return replace(x, low=x.low.clamp(least, most), high=x.high.clamp(least, most))
