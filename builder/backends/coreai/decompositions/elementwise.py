"""Number by number: what torch itself writes with operators that coreai-torch has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, ops

from builder.backends.coreai.decompositions.exact import is_negative

if TYPE_CHECKING:
    from torch._ops import OpOverload

TORCHS = (
    ops.aten.div.Scalar_mode,
    ops.aten.elu.default,
    ops.aten.native_dropout.default,
)
"""Operators for which torch's own decomposition is taken."""


def isnan(x: Tensor) -> Tensor:
    """NaN is the number that is not itself (torch's decomposition ends in prims, which coreai-torch does not know)."""
    return x.ne(x)


def nan_to_num(x: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """NaN and infinities as finite numbers."""
    limits = torch.finfo(x.dtype)
    x = torch.where(isnan(x), 0.0 if nan is None else nan, x)
    x = torch.where(x > limits.max, limits.max if posinf is None else posinf, x)
    return torch.where(x < limits.min, limits.min if neginf is None else neginf, x)


def copysign(x: Tensor, other: Tensor | float) -> Tensor:
    """The size of `x` with the sign of `other`; of zeros too, of which 1 / -0 is below 0."""
    signs = other if isinstance(other, Tensor) else torch.full_like(x, other)
    return torch.where(is_negative(signs), -x.abs(), x.abs())


def shifted_left(x: Tensor, bits: int) -> Tensor:
    """The bits of integers moved up: a product."""
    return torch.mul(x, 2**bits)


def shifted_right(x: Tensor, bits: int) -> Tensor:
    """The bits of integers moved down: a division that rounds down."""
    return torch.div(x, 2**bits, rounding_mode="floor")


def shifted_left_each(x: Tensor, bits: Tensor) -> Tensor:
    """The bits of integers moved up, by as many for each; by less than none or more than there are, nothing is left."""
    moved = torch.mul(x, _power_of_two(torch.clamp(bits, 0, 31)).to(x.dtype))
    return torch.where((bits < 0) | (bits > 31), 0, moved).to(x.dtype)


def shifted_right_each(x: Tensor, bits: Tensor) -> Tensor:
    """Likewise down, where the sign is left; 2^31 does not fit into 32 bits, so the last bit is shifted separately."""
    is_far = (bits < 0) | (bits > 30)
    few = torch.where(is_far, 30, bits).to(bits.dtype)
    moved = torch.div(x, _power_of_two(few).to(x.dtype), rounding_mode="floor")
    return torch.where(is_far, torch.div(moved, 2, rounding_mode="floor"), moved)


def _power_of_two(exponent: Tensor) -> Tensor:
    """The product of `2^(2^k)` for each bit k of an exponent: powers of floats are rounded."""
    power = torch.ones_like(exponent)
    for place in range(5):
        bit = torch.remainder(torch.div(exponent, 2**place, rounding_mode="floor"), 2)
        power = power * (1 + bit * (2 ** (2**place) - 1))
    return power


def angle(x: Tensor) -> Any:
    """Of real numbers pi below zero, else 0; NaN stays."""
    if x.is_complex():
        return NotImplemented
    x = x if x.is_floating_point() else x.to(torch.float32)
    return torch.where(x < 0, math.pi, torch.where(isnan(x), x, 0.0))


def scalar_tensor(value: Any, *, dtype: torch.dtype | None = None, **_: object) -> Any:
    """A tensor of one number, which coreai-torch rounds to half precision whatever its dtype; sizes it takes."""
    if not isinstance(value, float):
        return NotImplemented
    return torch.full((), value, dtype=dtype)


def _with_tensor(operator: Callable[..., Tensor]) -> Callable[[Tensor, float], Tensor]:
    """The operator on two tensors, for a tensor and a number."""
    return lambda x, other: operator(x, ops.aten.full_like(x, other))


OURS: dict[OpOverload, Callable[..., object]] = {
    ops.aten.bitwise_and.Scalar: _with_tensor(ops.aten.bitwise_and.Tensor),
    ops.aten.bitwise_or.Scalar: _with_tensor(ops.aten.bitwise_or.Tensor),
    ops.aten.bitwise_xor.Scalar: _with_tensor(ops.aten.bitwise_xor.Tensor),
    ops.aten.angle.default: angle,
    ops.aten.bitwise_left_shift.Tensor: shifted_left_each,
    ops.aten.bitwise_right_shift.Tensor: shifted_right_each,
    ops.aten.copysign.Scalar: copysign,
    ops.aten.copysign.Tensor: copysign,
    ops.aten.isnan.default: isnan,
    **dict.fromkeys((ops.aten.__lshift__.Scalar, ops.aten.bitwise_left_shift.Tensor_Scalar), shifted_left),
    **dict.fromkeys((ops.aten.__rshift__.Scalar, ops.aten.bitwise_right_shift.Tensor_Scalar), shifted_right),
    ops.aten.nan_to_num.default: nan_to_num,
    ops.aten.scalar_tensor.default: scalar_tensor,
    ops.prims.scalar_tensor.default: scalar_tensor,
}
