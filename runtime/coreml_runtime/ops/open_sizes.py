"""Sizes that are not known while a program is traced, since values of an input give them: what kernels do with these.

`torch.export` has a symbol for each such size, which may be passed on, but not looked at. `torch._check` says what must
hold of it: the program then checks that in every run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def whole(value: Any) -> Any:
    """A number as an integer; a symbol of a trace stays one."""
    return value if isinstance(value, torch.SymInt) else int(value)


def hold(condition: Any) -> None:
    """Let the program check in every run what its sizes must satisfy; raises RuntimeError where they never do."""
    torch._check(condition)  # type: ignore[no-untyped-call] # torch has no annotation here


def agree(sizes: Sequence[Any], declared: Sequence[int | None]) -> bool:
    """Whether sizes of a trace can be the declared ones, of which None is any; those that are symbols become them."""
    if len(sizes) != len(declared):
        return False
    for size, expected in zip(sizes, declared, strict=True):
        if isinstance(size, torch.SymInt) and expected is not None:
            hold(size == expected)
        elif expected is not None and size != expected:
            return False
    return True


def counted(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    """start, start + step, … below end: (N) of the type of `start`, where N depends on their values."""
    kind = torch.float32 if start.is_floating_point() else torch.int64
    steps = (end.reshape(()).to(kind) - start.reshape(()).to(kind)) / step.reshape(()).to(kind)
    count = size_of(steps.ceil())
    return (start.reshape(()).to(kind) + torch.arange(count).to(kind) * step.reshape(()).to(kind)).to(start.dtype)


def size_of(value: Tensor) -> Any:
    """The size that a tensor of one element holds; 0 for a negative one."""
    size = value.reshape(()).to(torch.int64).clamp(min=0).item()
    hold(size >= 0)
    return size


def reshaped(x: Tensor, shape: Tensor, *, copies: bool) -> Tensor:
    """x with the shape that a tensor holds: -1 is inferred, and 0 copies a size of x from the right if it `copies`."""
    target = shape.reshape(-1).to(torch.int64)
    if copies:
        own = [1] * max(target.numel() - x.dim(), 0) + list(x.shape)[max(x.dim() - target.numel(), 0) :]
        target = torch.where(target == 0, torch.stack([torch.as_tensor(size) for size in own]), target)
    others = torch.where(target == -1, 1, target).prod()
    left = torch.div(torch.full_like(others, x.numel()), others.clamp(min=1), rounding_mode="floor")
    inferred = torch.where(target == -1, left, target)
    sizes = [size_of(each) for each in inferred.unbind(0)]
    hold(math.prod(sizes) == x.numel())
    return x.reshape(sizes)


def cut(x: Tensor, axis: int, first: Tensor | None, last: Tensor | None, step: int) -> Tensor:
    """x[first:last:step] along an axis by numpy's rules; None is an open end."""
    size = x.shape[axis]
    low, high = (0, size) if step > 0 else (-1, size - 1)
    start = _within(first, size, low, high, low if step > 0 else high)
    stop = _within(last, size, low, high, high if step > 0 else low)
    distance = (stop - start) * (1 if step > 0 else -1) + (abs(step) - 1)
    count = size_of(torch.div(distance, abs(step), rounding_mode="floor"))
    return x.index_select(axis, start + torch.arange(count) * step)


def _within(place: Tensor | None, size: Any, low: Any, high: Any, open_end: Any) -> Tensor:
    """A place counted from the start, between `low` and `high`."""
    if place is None:
        return torch.as_tensor(open_end)
    place = place.reshape(()).to(torch.int64)
    place = torch.where(place < 0, place + size, place)
    return place.clamp(low, high)


def open_slice(
    x: Tensor, begin: Tensor, end: Tensor, stride: Sequence[int] | None, begin_mask: Sequence[Any] | None,
    end_mask: Sequence[Any] | None, squeezed: Sequence[int],
) -> Tensor:  # fmt: skip
    """x[begin:end:stride, …] where values say how much it takes; of axes in `squeezed` one element, at `begin`."""
    for axis in range(begin.numel()):
        step = (stride[axis] if stride else 1) or 1
        first = None if begin_mask and begin_mask[axis] else begin[axis]
        last = None if end_mask and end_mask[axis] else end[axis]
        if axis in squeezed:
            place = begin[axis].to(torch.int64).reshape(1)
            x = x.index_select(axis, torch.where(place < 0, place + x.shape[axis], place))
        elif first is not None or last is not None or step != 1:
            x = cut(x, axis, first, last, step)
    return x
