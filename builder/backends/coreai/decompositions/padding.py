"""Padding by amounts that sizes give: Core AI's padding takes numbers.

Where torch says `int`, a size that the app chooses is a symbol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import SymInt, Tensor, ops
from torch.nn import functional

if TYPE_CHECKING:
    from torch._ops import OpOverload


def constant_pad_nd(x: Tensor, pad: Sequence[int], value: float = 0) -> Any:
    """Gather each axis at its places, and take the value outside; a negative amount cuts off.

    Given:   x (…, L, …), b before and a behind
    Result:  places = range(b + L + a) - b;  where(0 <= places < L, x[clamp(places, 0, L - 1)], value)
    """
    if not any(isinstance(amount, SymInt) for amount in pad):
        return NotImplemented
    numbers = list(pad)
    for index in range(len(pad) // 2):
        before, after = pad[2 * index], pad[2 * index + 1]
        if isinstance(before, int) and isinstance(after, int):
            continue
        numbers[2 * index : 2 * index + 2] = 0, 0
        axis = x.dim() - 1 - index
        length = x.shape[axis]
        places = torch.arange(before + length + after) - before
        inside = ((places >= 0) & (places < length)).reshape([-1 if each == axis else 1 for each in range(x.dim())])
        x = torch.where(inside, torch.index_select(x, axis, places.clamp(0, length - 1)), value)
    return functional.pad(x, numbers, value=value) if any(numbers) else x


def _by_places(fold: Callable[[Tensor, int], Tensor]) -> Callable[..., object]:
    """Padding that repeats what is there: each axis is gathered at its places, folded into 0 … L - 1."""

    def pad(x: Tensor, padding: Sequence[int]) -> Any:
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


def _reflected(places: Tensor, length: int) -> Tensor:
    return (length - 1 - (length - 1 - places).abs()).abs()


def _clamped(places: Tensor, length: int) -> Tensor:
    return places.clamp(0, length - 1)


OURS: dict[OpOverload, Callable[..., object]] = {
    ops.aten.constant_pad_nd.default: constant_pad_nd,
    **{each.default: _by_places(_reflected) for each in (ops.aten.reflection_pad1d, ops.aten.reflection_pad2d)},
    **{each.default: _by_places(_clamped) for each in (ops.aten.replication_pad1d, ops.aten.replication_pad2d)},
}
