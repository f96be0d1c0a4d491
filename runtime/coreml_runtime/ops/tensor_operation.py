"""Operators that make, join, split, sort or select tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.limits import memory
from coreml_runtime.ops.table import Ints, Kernel, Tensors, exact, fresh, table


@exact
def band_part(*, x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    """Zero outside a band of the last two axes: `lower` diagonals below and `upper` above; negative keeps all."""
    below = torch.arange(x.shape[-2])[:, None] - torch.arange(x.shape[-1])[None, :]
    keep = torch.ones(below.shape, dtype=torch.bool)
    if lower >= 0:
        keep &= below <= lower
    if upper >= 0:
        keep &= -below <= upper
    return torch.where(keep, x, torch.zeros((), dtype=x.dtype))


def cumsum(*, x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """Running sum along an axis; `exclusive` leaves out the element itself, `reverse` sums from the end."""
    values = x.flip(axis) if reverse else x
    sums = torch.cumsum(values, axis)
    if exclusive:
        sums = torch.cat([torch.zeros_like(sums.narrow(axis, 0, 1)), sums.narrow(axis, 0, x.shape[axis] - 1)], axis)
    return sums.flip(axis) if reverse else sums


def fill(*, shape: Ints, value: Tensor | None = None) -> Tensor:
    """A tensor of one value."""
    return _full(shape, value)


def fill_like(*, ref_tensor: Tensor, value: Tensor | None = None) -> Tensor:
    """A tensor of one value, of the shape of another."""
    return _full(tuple(ref_tensor.shape), value)


def _full(shape: Ints, value: Tensor | None) -> Tensor:
    number = torch.zeros(()) if value is None else value.reshape(())
    if all(type(size) is int for size in shape) and math.prod(shape) * number.element_size() > memory():
        raise MemoryError(f"a tensor of shape {shape} is more than this machine can hold")
    return number.expand(shape).contiguous()


def non_zero(*, x: Tensor) -> Tensor:
    """The indices of the nonzero elements, one row each: (N, rank)."""
    return torch.nonzero(x)


def one_hot(
    *, indices: Tensor, one_hot_vector_size: int, axis: int = -1, on_value: Tensor | None = None,
    off_value: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """`on_value` at each index along a new axis, `off_value` elsewhere; an index outside the range sets nothing."""
    on = torch.ones(()) if on_value is None else on_value.reshape(())
    off = torch.zeros(()) if off_value is None else off_value.reshape(())
    hits = indices[..., None] == torch.arange(one_hot_vector_size)
    return torch.where(hits, on, off).movedim(-1, axis)


@exact
def pad(*, x: Tensor, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """Pad the last len(pad) / 2 axes by (before, after) pairs, in the order of the axes."""
    count = len(pad) // 2
    if mode == "constant":
        return functional.pad(x, _last_first(pad), value=constant_val)
    flat = _last_first(pad)
    most = 2 * max(x.dim() - 2, 1)
    if x.dim() in (2, 3, 4, 5) and len(flat) <= most and x.is_floating_point():  # torch has it for these alone
        return functional.pad(x, flat + [0] * (most - len(flat)), mode=mode)
    for i in range(count):
        before, after = pad[2 * i : 2 * i + 2]
        axis = x.dim() - count + i
        if before or after:
            x = x.index_select(axis, _border(x.shape[axis], before, after, mode))
    return x


def _last_first(pad: Ints) -> list[int]:
    """The pairs as torch takes them, the last axis first, without those of outer axes that stay as they are."""
    flat = [amount for i in reversed(range(len(pad) // 2)) for amount in pad[2 * i : 2 * i + 2]]
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        del flat[-2:]
    return flat


def _border(size: int, before: int, after: int, mode: str) -> Tensor:
    """Source index of each element of a padded axis."""
    positions = torch.arange(-before, size + after)
    if mode == "replicate":
        return positions.clamp(0, size - 1)
    if mode == "reflect":
        positions = positions.abs()
        return torch.where(positions > size - 1, 2 * (size - 1) - positions, positions)
    raise ValueError(f"mode {mode!r} is none of constant, reflect, replicate")


def range_1d(*, start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    """start, start + step, … below end."""
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


@exact
def tile(*, x: Tensor, reps: Ints) -> Tensor:
    """x repeated `reps[i]` times along axis i."""
    return x.tile(reps)


def argsort(*, x: Tensor, axis: int = -1, ascending: bool = False) -> Tensor:
    """Indices that sort x along an axis; equal values keep their order."""
    return torch.sort(x, dim=axis, descending=not ascending, stable=True).indices


@exact
def topk(
    *, x: Tensor, k: int = 1, axis: int = -1, ascending: bool = False, sort: bool = True, return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
    """The k largest (smallest if ascending) values along an axis and their indices, sorted; all of them for k = -1.

    The first of equal values comes first. The declared output type gives `output_indices_dtype`.
    """
    if k == -1:
        k = x.shape[axis]
    if k > x.shape[axis]:
        raise ValueError(f"k is {k}, but axis {axis} has {x.shape[axis]} elements")
    values, indices = torch.sort(x, dim=axis, descending=not ascending, stable=True)
    values = values.narrow(axis, 0, k)
    return (values, indices.narrow(axis, 0, k)) if return_indices else values


@exact
def flatten2d(*, x: Tensor, axis: int = 1) -> Tensor:
    """(product of the sizes before `axis`, product of the others)."""
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def shape(*, x: Tensor) -> Tensor:
    """The sizes of x, int32."""
    return torch.tensor(x.shape, dtype=torch.int32)


@exact
@fresh
def concat(*, values: Tensors, axis: int, interleave: bool = False) -> Tensor:
    """Join along an axis; interleaved, the first elements of all come first, then the second… Scalars make a vector."""
    if values[0].dim() == 0:
        return torch.stack(values)
    if not interleave:
        return torch.cat(values, axis)
    place = axis % values[0].dim()
    return torch.stack(values, place + 1).flatten(place, place + 1)


@exact
def split(*, x: Tensor, num_splits: int | None = None, split_sizes: Ints | None = None, axis: int) -> Tensors:
    """Parts along an axis, of the given sizes or of equal size."""
    if split_sizes is not None:
        return torch.split(x, list(split_sizes), axis)
    if not num_splits or x.shape[axis] % num_splits:
        raise ValueError(f"axis {axis} of size {x.shape[axis]} cannot be split into {num_splits} equal parts")
    return torch.split(x, x.shape[axis] // num_splits, axis)


@exact
def stack(*, values: Tensors, axis: int) -> Tensor:
    """Join along a new axis."""
    return torch.stack(values, axis)


@exact
def identity(*, x: Tensor) -> Tensor:
    """x."""
    return x


@exact
def select(*, cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where cond, b elsewhere."""
    return torch.where(cond if cond.dtype is torch.bool else cond != 0, a, b)


OPS: dict[str, Kernel] = table(
    band_part, cumsum, fill, fill_like, non_zero, one_hot, pad, range_1d, tile, argsort, topk, flatten2d, shape, concat,
    split, stack, identity, select,
)  # fmt: skip
