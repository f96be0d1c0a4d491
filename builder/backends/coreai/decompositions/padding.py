"""Padding by amounts that sizes give: Core AI's padding takes numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import SymInt, Tensor, ops


def constant_pad_nd(x: Tensor, pad: Sequence[Any], value: float = 0) -> Any:
    """Gather each axis at its places, and take the value outside; a negative amount cuts off.

    Given:   x (…, L, …), b before and a behind
    Result:  places = range(b + L + a) - b;  where(0 <= places < L, x[clamp(places, 0, L - 1)], value)
    """
    if not any(isinstance(amount, SymInt) for amount in pad):
        return NotImplemented
    for index in range(len(pad) // 2):
        before, after = pad[2 * index], pad[2 * index + 1]
        if isinstance(before, int) and isinstance(after, int):
            continue
        axis = x.dim() - 1 - index
        length = x.shape[axis]
        places = torch.arange(before + length + after) - before
        inside = ((places >= 0) & (places < length)).reshape([-1 if each == axis else 1 for each in range(x.dim())])
        x = torch.where(inside, torch.index_select(x, axis, places.clamp(0, length - 1)), value)
    fixed = [amount if isinstance(pad[i - i % 2], int) and isinstance(pad[i - i % 2 + 1], int) else 0
             for i, amount in enumerate(pad)]  # fmt: skip
    return ops.aten.constant_pad_nd.default(x, fixed, value) if any(fixed) else x


def _by_places(fold: Callable[[Tensor, Any], Tensor]) -> Callable[..., Any]:
    """Padding that repeats what is there: each axis is gathered at its places, folded into 0 … L - 1."""

    def pad(x: Tensor, padding: Sequence[Any]) -> Any:
        if not any(isinstance(amount, SymInt) for amount in padding):
            return NotImplemented
        for index in range(len(padding) // 2):
            before, after = padding[2 * index], padding[2 * index + 1]
            axis = x.dim() - 1 - index
            length = x.shape[axis]
            places = torch.arange(before + length + after) - before
            x = torch.index_select(x, axis, fold(places, length))
        return x

    return pad


def _reflected(places: Tensor, length: Any) -> Tensor:
    return (length - 1 - (length - 1 - places).abs()).abs()


def _clamped(places: Tensor, length: Any) -> Tensor:
    return places.clamp(0, length - 1)


OURS: dict[Any, Callable[..., Any]] = {
    ops.aten.constant_pad_nd.default: constant_pad_nd,
    **{each.default: _by_places(_reflected) for each in (ops.aten.reflection_pad1d, ops.aten.reflection_pad2d)},
    **{each.default: _by_places(_clamped) for each in (ops.aten.replication_pad1d, ops.aten.replication_pad2d)},
}
