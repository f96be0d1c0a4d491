"""Operators that torch's exporter to ONNX writes otherwise than torch computes them, as torch computes them.

It divides and rounds down, and a quotient such as 0.6 / 0.2 is rounded up to 3: the remainder is then one period off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """By torch's operator the function of onnxscript that writes it."""
    aten = torch.ops.aten
    return {
        **dict.fromkeys((aten.remainder.Tensor, aten.remainder.Scalar), _remainder),
        aten.floor_divide.default: _quotient,
    }


def _operators() -> Any:
    """ONNX's operators; their types do not know that numbers become constants."""
    from onnxscript import opset18

    return opset18


def _remainder(self: Any, other: object) -> Any:
    """What is left of `self` in the sign of `other`: `fmod`, and a period more where the signs differ."""
    op = _operators()
    other = op.CastLike(other, self)
    if self.dtype.is_integer():
        return op.Mod(self, other)
    rest = op.Mod(self, other, fmod=1)
    differs = op.Less(op.Mul(op.Sign(rest), op.Sign(other)), op.CastLike(0.0, self))
    return op.Where(differs, op.Add(rest, other), rest)


def _quotient(self: Any, other: object) -> Any:
    """`(self - remainder) / other`, a whole number but for rounding; `self / other` where nothing divides."""
    op = _operators()
    other = op.CastLike(other, self)
    whole = op.Div(op.Sub(self, _remainder(self, other)), other)
    if self.dtype.is_integer():
        return whole
    return op.Where(op.Equal(other, op.CastLike(0.0, self)), op.Div(self, other), op.Round(whole))
