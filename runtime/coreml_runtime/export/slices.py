"""Slices whose place depends on an input, as those of a cache that a position fills: indices that are computed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from coreml_runtime.ops import tensor_transformation as kernels
from coreml_runtime.ops.context import Context, is_real
from coreml_runtime.ops.open_sizes import open_slice
from coreml_runtime.ops.table import Bools, Ints, Kernel, exact, table


def _numbers(*tensors: Tensor) -> list[Ints]:
    return [tuple(int(each) for each in tensor.reshape(-1).tolist()) for tensor in tensors]


def _places(x: Tensor, begin: Tensor, sizes: Sequence[int], stride: Ints | None, masks: Bools | None) -> list[Tensor]:
    """The indices along each axis: `sizes` of them from `begin` on, which counts from the end where it is negative."""
    found = []
    for axis, count in enumerate(sizes):
        step = stride[axis] if stride else 1
        steps = torch.arange(count) * step
        if not (masks and masks[axis]):
            first = begin[axis].to(torch.int64)
            steps = steps + torch.where(first < 0, first + x.shape[axis], first)
        elif step < 0:
            steps = steps + x.shape[axis] - 1
        found.append(steps)
    return found


def _open_axes(x: Tensor, sizes: Sequence[int], stride: Ints | None) -> list[int]:
    """The axes of which a part is taken, or which run backwards; of the others the place can be the start alone."""
    return [
        axis for axis, count in enumerate(sizes) if count != x.shape[axis] or (stride is not None and stride[axis] < 0)
    ]


@exact
def slice_update(
    *, x: Tensor, update: Tensor, begin: Tensor, end: Tensor, stride: Ints | None = None,
    begin_mask: Bools | None = None, end_mask: Bools | None = None, squeeze_mask: Bools | None = None,
) -> Tensor:  # fmt: skip
    """A copy of x with `update` at `begin`; how much that is, the shape of `update` says."""
    if is_real(begin) and is_real(end):
        first, last = _numbers(begin, end)
        return _put(x, kernels.ranges(x, first, last, stride, begin_mask, end_mask, squeeze_mask), update)
    for axis, masked in enumerate(squeeze_mask or ()):
        update = update.unsqueeze(axis) if masked else update
    places, axes = _places(x, begin, update.shape, stride, begin_mask), _open_axes(x, update.shape, stride)
    if not axes:
        return update.to(x.dtype)
    if len(axes) == 1:
        return x.index_copy(axes[0], places[axes[0]], update.to(x.dtype))
    spread: list[Tensor | None] = [
        place.reshape([-1 if at == axis else 1 for at in range(x.dim())]) for axis, place in enumerate(places)
    ]
    return x.index_put(spread, update.to(x.dtype))


def _put(x: Tensor, kept: list[range], update: Tensor) -> Tensor:
    """`put_ranges` without a write in place, since the copy of a constant is another constant, and stays one."""
    backwards = [axis for axis, indices in enumerate(kept) if indices.step < 0]
    forwards = [indices[::-1] if indices.step < 0 else indices for indices in kept]
    if not all(kept):
        return x
    partial = [axis for axis, indices in enumerate(forwards) if len(indices) < x.shape[axis]]
    wholes = [x]
    for axis in partial:
        wholes.append(kernels.take_ranges(wholes[-1], _along(wholes[-1], axis, forwards[axis])))
    new = update.reshape(wholes[-1].shape).to(x.dtype)
    new = new.flip(backwards) if backwards else new
    for axis, whole in zip(reversed(partial), reversed(wholes[:-1]), strict=True):
        indices = forwards[axis]
        new = whole.slice_scatter(new, axis, indices.start, indices.stop, indices.step)
    return new


def _along(x: Tensor, axis: int, kept: range) -> list[range]:
    return [kept if at == axis else range(size) for at, size in enumerate(x.shape)]


def _is_open(x: Tensor) -> bool:
    return any(isinstance(size, torch.SymInt) for size in x.shape)


def _of_open_sizes(
    x: Tensor, begin: Ints, end: Ints, stride: Ints | None, begin_mask: Bools | None, end_mask: Bools | None,
    squeeze_mask: Bools | None,
) -> Tensor:  # fmt: skip
    """x[begin:end:stride, …] forwards, for torch to count what is kept: it takes numpy's rules too."""
    squeezed = [axis for axis, masked in enumerate(squeeze_mask or ()) if masked]
    kept = []
    for axis, (first, last) in enumerate(zip(begin, end, strict=True)):
        start = None if begin_mask and begin_mask[axis] else first
        if axis in squeezed:
            start = start or 0
            kept.append(slice(start, start + 1 or None))
        else:
            kept.append(slice(start, None if end_mask and end_mask[axis] else last, stride[axis] if stride else 1))
    taken = x[tuple(kept)]
    return taken.squeeze(squeezed) if squeezed else taken


@exact
def slice_by_index(
    *, x: Tensor, begin: Tensor, end: Tensor, stride: Ints | None = None, begin_mask: Bools | None = None,
    end_mask: Bools | None = None, squeeze_mask: Bools | None = None, context: Context,
) -> Tensor:  # fmt: skip
    """x[begin:end:stride, …]; how much that is, the declared shape of the result says."""
    if is_real(begin) and is_real(end):
        first, last = _numbers(begin, end)
        if _is_open(x) and all(step > 0 for step in stride or ()):
            return _of_open_sizes(x, first, last, stride, begin_mask, end_mask, squeeze_mask)
        return kernels.slice_by_index(
            x=x, begin=first, end=last, stride=stride, begin_mask=begin_mask, end_mask=end_mask,
            squeeze_mask=squeeze_mask,
        )  # fmt: skip
    declared = context.output_types[0]
    sizes: list[int | None] = list(declared.shape) if declared is not None else [None]
    squeezed = [axis for axis, masked in enumerate(squeeze_mask or ()) if masked]
    for axis in squeezed:
        sizes.insert(axis, 1)
    if None in sizes:
        taken = open_slice(x, begin, end, stride, begin_mask, end_mask, squeezed)
    else:
        taken = _taken(x, begin, [size for size in sizes if size is not None], stride, begin_mask)
    return taken.squeeze(squeezed) if squeezed else taken


@exact
def slice_by_size(*, x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
    """size[i] elements from begin[i] along each axis, all that follow where size[i] is -1."""
    if is_real(begin) and is_real(size):
        return kernels.slice_by_size(x=x, begin=_numbers(begin)[0], size=_numbers(size)[0])
    if is_real(size) and bool((size != -1).all()):
        return _taken(x, begin, _numbers(size)[0], None, None)
    begin = torch.stack(
        [torch.where(each < 0, each + x.shape[axis], each) for axis, each in enumerate(begin.unbind(0))]
    )
    ends = [torch.where(size[axis] == -1, x.shape[axis], begin[axis] + size[axis]) for axis in range(x.dim())]
    return open_slice(x, begin, torch.stack(ends), None, None, None, ())


def _taken(x: Tensor, begin: Tensor, counts: Sequence[int], stride: Ints | None, masks: Bools | None) -> Tensor:
    places = _places(x, begin, counts, stride, masks)
    for axis in _open_axes(x, counts, stride):
        x = x.index_select(axis, places[axis])
    return x


SLICES: dict[str, Kernel] = table(slice_update, slice_by_index, slice_by_size)
