"""Operators that rearrange the elements of one tensor."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops.context import Context
from coreml_runtime.ops.table import Bools, Ints, Kernel, Tensors, exact, table


@exact
def expand_dims(*, x: Tensor, axes: Ints) -> Tensor:
    """New axes of size 1 at the given places of the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@exact
def squeeze(*, x: Tensor, axes: Ints | None = None) -> Tensor:
    """Without the given axes of size 1 (all if None); an axis of another size stays."""
    return x.squeeze() if axes is None else x.squeeze(axes)


@exact
def reshape(*, x: Tensor, shape: Ints, context: Context) -> Tensor:
    """x with another shape: -1 is inferred, 0 copies a size of x.

    From iOS17 a 0 matches the axis of x that is as far from the right, and means 1 where x has none; before, x must
    have as many axes as `shape`.
    """
    if 0 in shape and x.numel():
        missing = len(shape) - x.dim()
        if missing and not context.since("ios17"):
            raise ValueError(f"the shape {shape} holds a 0, but x has {x.dim()} axes")
        shape = tuple(size or (x.shape[i - missing] if i >= missing else 1) for i, size in enumerate(shape))
    return x.reshape(shape)


@exact
def reshape_like(*, x: Tensor, ref_tensors: Tensors, begins: Tensors, ends: Tensors, end_masks: Tensors) -> Tensor:
    """x with the sizes `begins[i]:ends[i]` of each reference in turn, or `begins[i]:` where masked."""
    shape: list[int] = []
    for reference, begin, end, masked in zip(ref_tensors, begins, ends, end_masks, strict=True):
        shape += reference.shape[int(begin) : None if bool(masked) else int(end)]
    return x.reshape(shape)


@exact
def transpose(*, x: Tensor, perm: Ints) -> Tensor:
    """Axis i of the result is axis perm[i] of x."""
    return x.permute(perm)


@exact
def reverse(*, x: Tensor, axes: Ints | None = None) -> Tensor:
    """x backwards along the axes (all if None)."""
    return x.flip(tuple(range(x.dim())) if axes is None else axes)


@exact
def reverse_sequence(*, x: Tensor, lengths: Tensor, seq_axis: int = 0, batch_axis: int = 0) -> Tensor:
    """The first lengths[b] elements along `seq_axis` backwards, for each b along `batch_axis`."""
    moved = x.movedim((batch_axis, seq_axis), (0, 1))
    positions = torch.arange(moved.shape[1])[None, :]
    ends = lengths.to(torch.int64)[:, None]
    source = torch.where(positions < ends, ends - 1 - positions, positions)
    return moved[torch.arange(moved.shape[0])[:, None], source].movedim((0, 1), (batch_axis, seq_axis))


def ranges(
    x: Tensor, begin: Ints, end: Ints, stride: Ints | None, begin_mask: Bools | None, end_mask: Bools | None,
    squeeze_mask: Bools | None,
) -> list[range]:  # fmt: skip
    """The indices that each axis keeps; a squeezed axis keeps one."""
    if len(begin) != x.dim() or len(end) != x.dim():
        raise ValueError(f"begin and end have {len(begin)} and {len(end)} elements for {x.dim()} axes")
    kept = []
    for axis, size in enumerate(x.shape):
        first = None if begin_mask and begin_mask[axis] else begin[axis]
        last = None if end_mask and end_mask[axis] else end[axis]
        if squeeze_mask and squeeze_mask[axis]:
            index = (first or 0) + (size if (first or 0) < 0 else 0)
            if not 0 <= index < size:
                raise ValueError(f"index {first} is outside axis {axis} of size {size}")
            kept.append(range(index, index + 1))
        else:
            kept.append(range(*slice(first, last, stride[axis] if stride else 1).indices(size)))
    return kept


def take_ranges(x: Tensor, kept: list[range]) -> Tensor:
    """x at the kept indices: a view, except where an axis runs backwards."""
    backwards = []
    slices = []
    for axis, indices in enumerate(kept):
        if not indices:
            slices.append(slice(0, 0))
            continue
        if indices.step < 0:
            backwards.append(axis)
            indices = indices[::-1]
        slices.append(slice(indices.start, indices.stop, indices.step))
    view = x[tuple(slices)]
    return view.flip(backwards) if backwards else view


def put_ranges(x: Tensor, kept: list[range], update: Tensor) -> Tensor:
    """A copy of x in which the part that `take_ranges` would return is `update`."""
    backwards = [axis for axis, indices in enumerate(kept) if indices.step < 0]
    forwards = [indices[::-1] if indices.step < 0 else indices for indices in kept]
    result = x.clone(memory_format=torch.contiguous_format)
    target = take_ranges(result, forwards)
    new = update.reshape(target.shape)
    target.copy_(new.flip(backwards) if backwards else new)
    return result


def _squeezed(squeeze_mask: Bools | None) -> Ints:
    return tuple(axis for axis, masked in enumerate(squeeze_mask or ()) if masked)


@exact
def slice_by_index(
    *, x: Tensor, begin: Ints, end: Ints, stride: Ints | None = None, begin_mask: Bools | None = None,
    end_mask: Bools | None = None, squeeze_mask: Bools | None = None,
) -> Tensor:  # fmt: skip
    """x[begin:end:stride, …] by numpy's rules; a masked begin or end is open, a squeezed axis is indexed at begin."""
    result = take_ranges(x, ranges(x, begin, end, stride, begin_mask, end_mask, squeeze_mask))
    squeezed = _squeezed(squeeze_mask)
    return result.squeeze(squeezed) if squeezed else result


@exact
def slice_update(
    *, x: Tensor, update: Tensor, begin: Ints, end: Ints, stride: Ints | None = None, begin_mask: Bools | None = None,
    end_mask: Bools | None = None, squeeze_mask: Bools | None = None,
) -> Tensor:  # fmt: skip
    """A copy of x in which the part that `slice_by_index` would return is `update`."""
    return put_ranges(x, ranges(x, begin, end, stride, begin_mask, end_mask, squeeze_mask), update)


@exact
def slice_by_size(*, x: Tensor, begin: Ints, size: Ints) -> Tensor:
    """size[i] elements from begin[i] along each axis, all that follow where size[i] is -1."""
    for axis, (first, count) in enumerate(zip(begin, size, strict=True)):
        start = first + x.shape[axis] if first < 0 else first
        x = x.narrow(axis, start, x.shape[axis] - start if count == -1 else count)
    return x


@exact
def sliding_windows(*, x: Tensor, axis: int, size: int, stride: int = 1) -> Tensor:
    """All windows of `size` along an axis: (…, windows, size, …)."""
    place = axis % x.dim()
    return x.unfold(place, size, stride).movedim(-1, place + 1)


@exact
def depth_to_space(*, x: Tensor, block_size: int) -> Tensor:
    """(N, C, H, W) -> (N, C / b^2, H b, W b); the block is the outer part of the channels."""
    n, c, h, w = x.shape
    b = block_size
    return x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // (b * b), h * b, w * b)


@exact
def space_to_depth(*, x: Tensor, block_size: int) -> Tensor:
    """(N, C, H, W) -> (N, C b^2, H / b, W / b); the inverse of `depth_to_space`."""
    n, c, h, w = x.shape
    b = block_size
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


@exact
def space_to_batch(*, x: Tensor, block_shape: Ints, paddings: Ints) -> Tensor:
    """(N, C, H, W) -> (N a b, C, H' / a, W' / b) for blocks of a x b, after padding ((top, bottom), (left, right))."""
    top, bottom, left, right = paddings
    padded = functional.pad(x, (left, right, top, bottom))
    n, c, h, w = padded.shape
    a, b = block_shape
    blocks = padded.reshape(n, c, h // a, a, w // b, b).permute(3, 5, 0, 1, 2, 4)
    return blocks.reshape(n * a * b, c, h // a, w // b)


@exact
def batch_to_space(*, x: Tensor, block_shape: Ints, crops: Ints) -> Tensor:
    """The inverse of `space_to_batch`; `crops` are ((top, bottom), (left, right))."""
    n, c, h, w = x.shape
    a, b = block_shape
    top, bottom, left, right = crops
    merged = x.reshape(a, b, n // (a * b), c, h, w).permute(2, 3, 4, 0, 5, 1).reshape(n // (a * b), c, h * a, w * b)
    return merged[:, :, top : h * a - bottom, left : w * b - right]


@exact
def pixel_shuffle(*, x: Tensor, upscale_factor: int) -> Tensor:
    """(N, C f^2, H, W) -> (N, C, H f, W f); the block is the inner part of the channels."""
    return functional.pixel_shuffle(x, upscale_factor)


@exact
def pixel_unshuffle(*, x: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of `pixel_shuffle`."""
    return functional.pixel_unshuffle(x, downscale_factor)


OPS: dict[str, Kernel] = table(
    expand_dims, squeeze, reshape, reshape_like, transpose, reverse, reverse_sequence, slice_by_index, slice_update,
    slice_by_size, sliding_windows, depth_to_space, space_to_depth, space_to_batch, batch_to_space, pixel_shuffle,
    pixel_unshuffle,
)  # fmt: skip
