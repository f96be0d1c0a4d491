"""Operators that rearrange, repeat, cut and join elements."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from coreml_runtime.coreai.ops.sizes import expect
from coreml_runtime.ops import tensor_operation as mil
from coreml_runtime.ops import tensor_transformation as transformation
from coreml_runtime.ops.context import Context
from coreml_runtime.ops.table import Ints, Kernel, Tensors, exact, merge, table


@exact
def reshape(*, x: Tensor, new_shape: Ints) -> Tensor:
    """x with another shape, of which one size may be -1."""
    return x.reshape(new_shape)


@exact
def shrink_dims(*, x: Tensor, axes: Ints) -> Tensor:
    """Without the given axes, whose size is 1."""
    wrong = [axis for axis in axes if x.shape[axis] != 1]
    if wrong:
        raise ValueError(f"axes {wrong} of shape {tuple(x.shape)} are not of size 1")
    return x.squeeze(axes)


@exact
def broadcast_to(*, x: Tensor, shape: Ints) -> Tensor:
    """x repeated to a shape by numpy's rules."""
    return x.expand(_broadcast(x.shape, shape))


@exact
def broadcast_in_dims(*, x: Tensor, dim_sizes: Ints, axes: Ints) -> Tensor:
    """x whose axes `axes`, of size 1, are repeated to `dim_sizes`."""
    sizes = list(x.shape)
    for axis, size in zip(axes, dim_sizes, strict=True):
        sizes[axis] = size
    return x.expand(sizes)


def broadcast_shapes(*, shape_1: Ints, shape_2: Ints) -> Tensor:
    """The shape that both can be broadcast to."""
    return torch.tensor(_broadcast(shape_1, shape_2), dtype=torch.int64)


def _broadcast(*shapes: Ints) -> torch.Size:
    found: torch.Size = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]  # torch has no annotation here
    return found


def get_shape(*, x: Tensor) -> Tensor:
    """The sizes of x (rank)."""
    return torch.tensor(x.shape, dtype=torch.int64)


@exact
def tile(*, x: Tensor, dims: Ints, context: Context) -> Tensor:
    """x repeated dims[i] times along its last axes."""
    counts = (1,) * (x.dim() - len(dims)) + dims
    expect(context, tuple(size * count for size, count in zip(x.shape, counts, strict=True)))
    return x.tile(dims)


@exact
def concat(*, dimension: int, inputs: Tensors) -> Tensor:
    """Joined along an axis; a number counts as a vector of one, as compilers write it into shapes."""
    return torch.cat([each.reshape(1) if each.dim() == 0 else each for each in inputs], dimension)


@exact
def split(*, x: Tensor, sizes: Tensor, axis: int) -> Tensors:
    """Parts along an axis: of one size (a scalar), the last smaller, or of a list of sizes."""
    return torch.split(x, sizes.tolist(), axis)


def _ranges(x: Tensor, start: Ints, end: Ints, strides: Ints) -> list[range]:
    """The indices that each axis keeps. Bounds below the least valid one count from the end, once; then they are cut.

    Backwards an end of -1 is the place before the first element and does not count from the end.
    """
    kept = []
    for size, first, last, step in zip(x.shape, start, end, strides, strict=True):
        if step == 0:
            raise ValueError("a stride is 0")
        low, high = (0, size) if step > 0 else (-1, size - 1)
        first = first + size if first < 0 else first
        last = last + size if last < low else last
        kept.append(range(min(max(first, 0), high), min(max(last, low), high), step))
    return kept


@exact
def slice_(*, x: Tensor, start_indices: Ints, end_indices: Ints, strides: Ints) -> Tensor:
    """x[start:end:stride] along each axis."""
    return transformation.take_ranges(x, _ranges(x, start_indices, end_indices, strides))


@exact
def slice_update(*, x: Tensor, start_indices: Ints, end_indices: Ints, strides: Ints, update: Tensor) -> Tensor:
    """A copy of x in which what `slice` would return is `update`."""
    return transformation.put_ranges(x, _ranges(x, start_indices, end_indices, strides), update)


@exact
def pad(*, x: Tensor, padding: Ints, padding_value: Tensor, padding_mode: str, context: Context) -> Tensor:
    """x with elements before and after each axis: padding holds (before, after) for each."""
    amounts = zip(padding[::2], padding[1::2], strict=True)
    expect(context, tuple(size + sum(each) for size, each in zip(x.shape, amounts, strict=True)))
    if padding_mode == "constant":
        flat = [amount for i in reversed(range(x.dim())) for amount in padding[2 * i : 2 * i + 2]]
        while len(flat) > 2 and not any(flat[-2:]):
            del flat[-2:]
        return torch.nn.functional.pad(x, flat, value=padding_value.item())
    if padding_mode in ("replicate", "reflect"):
        return mil.pad(x=x, pad=padding, mode=padding_mode)
    for axis in range(x.dim()):
        before, after = padding[2 * axis : 2 * axis + 2]
        if before or after:
            x = x.index_select(axis, _border(x.shape[axis], before, after, padding_mode))
    return x


def _border(size: int, before: int, after: int, mode: str) -> Tensor:
    """Source index of each element of a padded axis; "symmetric" mirrors with the border, "circular" goes round."""
    if max(before, after) > size:
        raise ValueError(f"{mode} padding of {before} and {after} for {size} elements")
    positions = torch.arange(-before, size + after)
    if mode == "circular":
        return positions % size
    positions = torch.where(positions < 0, -1 - positions, positions)
    return torch.where(positions >= size, 2 * size - 1 - positions, positions)


def range_(*, start: Tensor, stop: Tensor, step: Tensor, context: Context) -> Tensor:
    """start, start + step, … before stop."""
    first, last, gap = start.item(), stop.item(), step.item()
    expect(context, (max(0, math.ceil((last - first) / gap)),))
    return torch.arange(first, last, gap, dtype=start.dtype)


OPS: dict[str, Kernel] = merge(
    table(
        reshape, shrink_dims, broadcast_to, broadcast_in_dims, broadcast_shapes, get_shape, tile, concat, split, slice_,
        slice_update, pad, range_,
    ),
    table(transformation.expand_dims, transformation.transpose, transformation.reverse, mil.identity),
)  # fmt: skip
