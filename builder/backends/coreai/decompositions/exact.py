"""Operators of which coreai-torch's own lowering differs from torch at NaN, infinities, signed zeros or small numbers.

What keeps its operator with a guard around it is in `passes/rounding.py`. Delete each when the fixed version is the
oldest that we support.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, ops

if TYPE_CHECKING:
    from torch._ops import OpOverload


def is_negative(x: Tensor) -> Tensor:
    """Whether the sign is set, of zeros too: 1 / -0 is below 0."""
    return (x < 0) | (1 / x < 0) if x.is_floating_point() else x < 0


def _is_float(x: object) -> bool:
    return x.is_floating_point() if isinstance(x, Tensor) else isinstance(x, float)


def _or_equal(strictly: Callable[[Tensor, Any], Tensor]) -> Callable[..., Any]:
    """`x <= y` as `x < y or x == y`: coreai-torch has `not x > y`, which is true of NaN."""

    def compare(x: Tensor, other: Any) -> Any:
        if not (_is_float(x) or _is_float(other)):
            return NotImplemented
        return torch.logical_or(strictly(x, other), torch.eq(x, other))

    return compare


def log1p(x: Tensor) -> Tensor:
    """`log(1 + x)` without what 1 + x rounds off: `log(u) x / (u - 1)` with u = 1 + x (Kahan), and x where u is 1."""
    x = x if x.is_floating_point() else x.float()
    u = 1 + x
    near = torch.where(u == 1, x, u.log() * (x / (u - 1)))
    return torch.where(x.abs() < 0.5, near, u.log())


def expm1(x: Tensor) -> Tensor:
    """`e^x - 1` as `tanh(x / 2) (e^x + 1)`, which takes nothing from a number that is almost the same."""
    x = x if x.is_floating_point() else x.float()
    return torch.tanh(x * 0.5) * (x.exp() + 1)


def power(x: Tensor, exponent: float) -> Any:
    """Roots as roots, which are NaN of -inf: Core AI's power is infinite."""
    if not _is_float(x) or not isinstance(exponent, float) or abs(exponent) != 0.5:
        return NotImplemented
    return x.sqrt() if exponent > 0 else x.rsqrt()


def atan2(y: Tensor, x: Tensor) -> Tensor:
    """The angle of the point (x, y), turned by half a circle where x has a minus, by IEEE 754's table.

    coreai-torch gives ±π for every y at x = -0.
    """
    y, x = (each if each.is_floating_point() else each.float() for each in (y, x))
    below, left = is_negative(y), is_negative(x)
    ratio = torch.where((x == 0) & (y == 0), y, y / x)
    ratio = torch.where(x.isinf() & y.isinf(), torch.where(below ^ left, -1.0, 1.0), ratio)
    angle = ratio.atan()
    return torch.where(left, angle + torch.where(below, -math.pi, math.pi), angle)


def remainder(x: Tensor, other: Any) -> Any:
    """The remainder with the sign of `other`, by that with the sign of x, as torch has it (BinaryOpsKernel.cpp)."""
    if not (_is_float(x) or _is_float(other)):
        return torch.remainder(x, torch.full_like(x, other)) if not isinstance(other, Tensor) else NotImplemented
    rest = torch.fmod(x, other)
    opposite = (
        (rest < 0) if isinstance(other, int | float) and other > 0 else (rest < 0) ^ (other < torch.zeros_like(rest))
    )
    return torch.where(opposite & (rest != 0), rest + other, rest)


def truncated_division(x: Tensor, other: Tensor, *, rounding_mode: str | None = None) -> Any:
    """The quotient without its fraction; coreai-torch's is NaN where the quotient is infinite."""
    if rounding_mode != "trunc" or not (_is_float(x) or _is_float(other)):
        return NotImplemented
    return torch.trunc(x / other)


def bucketize(x: Tensor, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """How many boundaries are below each number; with `right` those that it equals too. NaN is beyond all."""
    return _places(x, boundaries, out_int32=out_int32, right=right)


def searchsorted(
    boundaries: Tensor,
    x: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """As `bucketize`, with boundaries for all numbers (N) or for each row of them (…, N)."""
    if sorter is not None:
        boundaries = torch.gather(boundaries, -1, sorter)
    right = right or side == "right"
    if boundaries.dim() > 1:
        boundaries = boundaries.unsqueeze(-2)
    return _places(x, boundaries, out_int32=out_int32, right=right)


def _places(x: Tensor, boundaries: Tensor, *, out_int32: bool, right: bool) -> Tensor:
    each, kind = x.unsqueeze(-1), torch.int32 if out_int32 else torch.int64
    passed = (each < boundaries).logical_not() if right else each > boundaries
    places = passed.sum(-1, dtype=kind)
    return places if right or not x.is_floating_point() else torch.where(x.ne(x), boundaries.shape[-1], places)


def _without_nan(operator: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """An extremum of two numbers of which NaN is none."""

    def extremum(x: Tensor, other: Tensor) -> Tensor:
        return torch.where(x.ne(x), other, torch.where(other.ne(other), x, operator(x, other)))

    return extremum


def hypot(x: Tensor, other: Tensor) -> Tensor:
    """`sqrt(x² + other²)` from the larger magnitude, so that no square overflows; infinite with NaN is infinite."""
    x, other = x.abs(), other.abs()
    largest = torch.maximum(x, other)
    safe = torch.where(largest > 0, largest, 1.0)
    found = largest * ((x / safe).square() + (other / safe).square()).sqrt()
    return torch.where(x.isinf(), x, torch.where(other.isinf(), other, found))


def erfc(x: Tensor) -> Tensor:
    """`1 - erf(x)`."""
    return 1 - torch.erf(x)


def ldexp(x: Tensor, other: Tensor) -> Tensor:
    """`x 2^other`."""
    return x * torch.pow(2.0, other)


def bitwise_not(x: Tensor) -> Any:
    """`-1 - x` of integers, which coreai-torch computes in floats: exact to 2^24."""
    return NotImplemented if x.dtype is torch.bool else -1 - x


OURS: dict[OpOverload, Callable[..., object]] = {
    **dict.fromkeys((ops.aten.le.Scalar, ops.aten.le.Tensor), _or_equal(torch.lt)),
    **dict.fromkeys((ops.aten.ge.Scalar, ops.aten.ge.Tensor), _or_equal(torch.gt)),
    ops.aten.atan2.default: atan2,
    ops.aten.bitwise_not.default: bitwise_not,
    ops.aten.bucketize.Tensor: bucketize,
    ops.aten.div.Tensor_mode: truncated_division,
    ops.aten.erfc.default: erfc,
    ops.aten.expm1.default: expm1,
    ops.aten.fmax.default: _without_nan(torch.maximum),
    ops.aten.fmin.default: _without_nan(torch.minimum),
    ops.aten.hypot.default: hypot,
    ops.aten.ldexp.Tensor: ldexp,
    ops.aten.log1p.default: log1p,
    ops.aten.pow.Tensor_Scalar: power,
    **dict.fromkeys((ops.aten.remainder.Scalar, ops.aten.remainder.Tensor), remainder),
    ops.aten.searchsorted.Tensor: searchsorted,
    ops.aten.signbit.default: is_negative,
}
