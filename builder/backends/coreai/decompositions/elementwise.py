"""Number by number: what torch itself writes with operators that coreai-torch has."""

from __future__ import annotations

import torch
from torch import Tensor, ops

TORCHS = (
    ops.aten.bitwise_and.Scalar,
    ops.aten.bitwise_or.Scalar,
    ops.aten.bitwise_xor.Scalar,
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


def remainder(x: Tensor, other: float) -> Tensor:
    """With the sign of the divisor, as Python has it."""
    return ops.aten.remainder.Tensor(x, ops.aten.full_like(x, other))


OURS = {
    ops.aten.isnan.default: isnan,
    ops.aten.nan_to_num.default: nan_to_num,
    ops.aten.remainder.Scalar: remainder,
}
