"""Limits that keep integers whole, and that are tensors; whether any element is not zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, UpstreamBug, Var
from builder.backends.coreml.lowerings.variables import (
    all_axes,
    is_bool,
    is_constant,
    is_float,
    promoted,
    selected,
    zeros_like,
)


def clamp(mb: Builder, x: Var, min: Var | None = None, max: Var | None = None) -> Var:
    """`min(max(x, least), greatest)`: where the limits cross, the greatest one counts."""
    if min is not None:
        x, least = promoted(x, min)
        x = mb.maximum(x=x, y=least)
    if max is not None:
        x, greatest = promoted(x, max)
        x = mb.minimum(x=x, y=greatest)
    return x


def clamp_min(mb: Builder, x: Var, min: Var) -> Var:
    """The larger of both."""
    return clamp(mb, x, min)


def clamp_max(mb: Builder, x: Var, max: Var) -> Var:
    """The smaller of both."""
    return clamp(mb, x, None, max)


def _is_no_clip(x: Var, min: Var | None = None, max: Var | None = None) -> bool:
    """Whether MIL's clip cannot: integers, limits that are tensors, infinite, missing (it has two) or that cross."""
    limits = [limit for limit in (min, max) if limit is not None]
    if not is_float(x) or any(not is_constant(limit) or limit.rank > 0 for limit in limits):
        return True
    numbers = [float(limit.val) for limit in limits]
    return len(numbers) < 2 or not all(map(math.isfinite, numbers)) or numbers[0] >= numbers[1]


def threshold(mb: Builder, x: Var, threshold: float, value: float) -> Var:
    """X where it is above the threshold, or NaN, else `value`."""
    return selected(mb, mb.less_equal(x=x, y=float(threshold)), float(value), x)


def any_or_all(every: bool, mb: Builder, x: Var, dim: Sequence[int] | int | None = None, keepdim: bool = False) -> Var:
    """Whether any element is not zero, or every one; of fractions and negative numbers too."""
    truth = mb.cast(x=x if is_bool(x) else mb.not_equal(x=x, y=zeros_like(mb, x)), dtype="int32")
    axes = all_axes(dim, x.rank)
    if axes:
        reduce = mb.reduce_min if every else mb.reduce_max
        truth = reduce(x=truth, axes=axes, keep_dims=bool(keepdim))
    return mb.cast(x=truth, dtype="bool")


def _is_number(x: Var) -> bool:
    """Of truths coremltools is right."""
    return not is_bool(x)


LIMITS = (
    *(
        Lowering(
            operator=name,
            lower=clamp,
            wrong=UpstreamBug(
                issue=None,
                summary="computes limits of integers in floats, takes limits that cross the other way, "
                "and cuts infinity to the greatest number where there is no limit",
            ),
            applies=_is_no_clip,
        )
        for name in ("clamp", "clip")
    ),
    Lowering(
        operator="threshold",
        lower=threshold,
        wrong=UpstreamBug(issue=None, summary="is NaN where an infinite value is not taken"),
        applies=lambda value: not math.isfinite(value),
    ),
    Lowering(operator="clamp_min", lower=clamp_min, upstream_gap="limits of another dtype"),
    Lowering(operator="clamp_max", lower=clamp_max, upstream_gap="limits of another dtype"),
    *(
        Lowering(
            operator=f"{name}{overload}",
            lower=partial(any_or_all, name == "all"),
            wrong=UpstreamBug(issue=None, summary="takes fractions for zeros, and negative numbers for less than zero"),
            applies=_is_number,
        )
        for name in ("any", "all")
        for overload in ("", ".dim", ".dims")
    ),
)
