"""Operators that only move elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral

from builder.backends.coreml.lowerings.flexible_sizes import axis_size, is_open
from builder.backends.coreml.lowerings.lowering import Builder, Constant, Lowering, Size, UpstreamBug, Var
from builder.backends.coreml.lowerings.variables import (
    dtype_name,
    fixed_shape,
    fixed_size,
    is_bool,
    numpy_dtype,
    positive,
    promoted,
    selected,
    slice_axis,
)


def narrow(mb: Builder, x: Var, dim: int, start: int, length: int) -> Var:
    """`length` entries along an axis from `start`, which may count from the end."""
    return slice_axis(mb, x, dim, start, start + length if start + length else None)


def _starts_at_the_end(start: object) -> bool:
    return isinstance(start, int) and start < 0


def swapaxes(mb: Builder, x: Var, axis0: int, axis1: int) -> Var:
    """X with two axes exchanged."""
    order = list(range(x.rank))
    order[axis0], order[axis1] = order[axis1], order[axis0]
    return mb.transpose(x=x, perm=order)


def movedim(mb: Builder, x: Var, source: Constant, destination: Constant) -> Var:
    """X with the axes `source` at the places `destination`, the others in their order."""
    sources, places = ([axes] if isinstance(axes, int) else list(axes) for axes in (source, destination))
    sources, places = ([positive(axis, x.rank) for axis in axes] for axes in (sources, places))
    rest = [axis for axis in range(x.rank) if axis not in sources]
    moved = dict(zip(places, sources, strict=True))
    return mb.transpose(x=x, perm=[moved[i] if i in moved else rest.pop(0) for i in range(x.rank)])


def diff(mb: Builder, x: Var, n: int = 1, dim: int = -1, prepend: Var | None = None, append: Var | None = None) -> Var:
    """`x[1:] - x[:-1]` along an axis, n times; of booleans where neighbours are not equal."""
    ends = [part for part in (prepend, x, append) if part is not None]
    x = mb.concat(values=promoted(*ends), axis=dim) if len(ends) > 1 else x
    if n == 0:
        return mb.identity(x=x)
    for _ in range(n if is_open([x.shape[dim]]) else min(n, x.shape[dim])):
        if x.shape[dim] == 1:
            raise NotImplementedError("diff of one element leaves nothing, which Core ML cannot return")
        later, earlier = slice_axis(mb, x, dim, 1, None), slice_axis(mb, x, dim, None, -1)
        x = mb.logical_xor(x=later, y=earlier) if is_bool(x) else mb.sub(x=later, y=earlier)
    return x


def unfold(mb: Builder, x: Var, dimension: int, size: int, step: int) -> Var:
    """`x.unfold(dimension, size, step)`: windows of an axis, their elements on a new last axis."""
    import numpy as np

    if x.rank == 0:
        return mb.reshape(x=x, shape=[1])
    axis = positive(dimension, x.rank)
    if not all(isinstance(length, int) for length in x.shape):
        return _unfold_open(mb, x, axis, size, step)
    length = fixed_size(x, axis, "unfold")
    count = (length - size) // step + 1
    indices = np.arange(count)[:, None] * step + np.arange(size)[None, :]
    windows = mb.gather(x=x, indices=indices.reshape(-1).astype(np.int32), axis=axis)
    if axis == x.rank - 1:
        return mb.reshape(x=windows, shape=[*fixed_shape(x, "unfold")[:axis], count, size])
    sizes = fixed_shape(x, "unfold")
    before, after = math.prod(sizes[:axis]), math.prod(sizes[axis + 1 :])
    windows = mb.reshape(x=windows, shape=[before, count, size, after])
    windows = mb.transpose(x=windows, perm=[0, 1, 3, 2])
    return mb.reshape(x=windows, shape=[*sizes[:axis], count, *sizes[axis + 1 :], size])


def _unfold_open(mb: Builder, x: Var, axis: int, size: int, step: int) -> Var:
    """The same over an axis that the app chooses: places follow from its size, as a matrix of windows."""
    import numpy as np

    length = mb.squeeze(x=mb.slice_by_size(x=mb.shape(x=x), begin=[axis], size=[1]), axes=[0])
    starts = mb.range_1d(start=0, end=mb.sub(x=length, y=size - 1), step=step)
    places = mb.add(x=mb.expand_dims(x=starts, axes=[1]), y=np.arange(size, dtype=np.int32).reshape(1, -1))
    windows = mb.gather(x=x, indices=places, axis=axis)
    order = [i for i in range(x.rank + 1) if i != axis + 1]
    return windows if axis == x.rank - 1 else mb.transpose(x=windows, perm=[*order, axis + 1])


def as_strided(
    mb: Builder, x: Var, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Var:
    """Elements of a contiguous x at fixed places in memory; a view of another layout has others, as checks then say."""
    import numpy as np

    if not all(isinstance(number, int) for number in [*size, *stride]):
        raise NotImplementedError("as_strided with sizes that depend on the input is not converted")
    places = np.full((), storage_offset or 0)
    for length, step in zip(size, stride, strict=True):
        places = places[..., None] + np.arange(length) * step
    flat = mb.reshape(x=x, shape=[-1])
    picked = mb.gather(x=flat, indices=places.reshape(-1).astype(np.int32), axis=0)
    return mb.reshape(x=picked, shape=list(size)) if size else mb.squeeze(x=picked, axes=[0])


def channel_shuffle(mb: Builder, x: Var, groups: int) -> Var:
    """The channels (N, C, …), read as (groups, C / groups), transposed."""
    channels = fixed_size(x, 1, "channel_shuffle")
    known = all(isinstance(size, Integral) for size in x.shape)
    shape = [int(size) for size in x.shape] if known else mb.shape(x=x)
    batch = int(x.shape[0]) if isinstance(x.shape[0], Integral) else mb.slice_by_size(x=shape, begin=[0], size=[1])
    split = [batch, groups, channels // groups, math.prod(shape[2:]) if known else -1]
    if not isinstance(batch, int):
        split = mb.concat(values=[batch, split[1:]], axis=0)
    return mb.reshape(x=mb.transpose(x=mb.reshape(x=x, shape=split), perm=[0, 2, 1, 3]), shape=shape)


def rot90(mb: Builder, x: Var, k: int = 1, dims: Sequence[int] = (0, 1)) -> Var:
    """Turned k times by 90 degrees, from the first axis towards the second."""
    first, second = dims
    turns = k % 4
    if turns == 0:
        return mb.identity(x=x)
    if turns == 2:
        return mb.reverse(x=x, axes=[first, second])
    if turns == 1:
        return swapaxes(mb, mb.reverse(x=x, axes=[second]), first, second)
    return mb.reverse(x=swapaxes(mb, x, first, second), axes=[second])


def flip(mb: Builder, x: Var, dims: Sequence[int]) -> Var:
    """A constant reversed along axes, as a copy in its own order: a view backwards is nothing that torch takes."""
    import numpy as np

    return mb.const(val=np.ascontiguousarray(np.flip(x.val, tuple(dims))))


def flipud(mb: Builder, x: Var) -> Var:
    """Reversed along the first axis."""
    return mb.reverse(x=x, axes=[0])


def matrix_transposed(mb: Builder, x: Var) -> Var:
    """The last two axes exchanged."""
    return swapaxes(mb, x, -2, -1)


def view_as(mb: Builder, x: Var, other: Var) -> Var:
    """X in the shape of another."""
    fixed = all(isinstance(size, int) for size in other.shape)
    return mb.reshape(x=x, shape=list(other.shape) if fixed else mb.shape(x=other))


def ravel(mb: Builder, x: Var) -> Var:
    """All elements in one axis."""
    return mb.reshape(x=x, shape=[-1])


def tensor_split(mb: Builder, x: Var, indices_or_sections: Constant, dim: int = 0) -> tuple[Var, ...]:
    """Parts of nearly equal size, or between indices."""
    if hasattr(indices_or_sections, "rank"):
        raise NotImplementedError("tensor_split at places that the input decides gives sizes that depend on values")
    if is_open([x.shape[dim]]) and isinstance(indices_or_sections, int):
        return open_sections(mb, x, indices_or_sections, dim)
    length = fixed_size(x, dim, "tensor_split")
    if isinstance(indices_or_sections, int):
        small, larger = divmod(length, indices_or_sections)
        sizes = [small + (part < larger) for part in range(indices_or_sections)]
    else:
        edges = [0, *(min(positive(i, length), length) for i in indices_or_sections), length]
        sizes = [end - begin for begin, end in pairwise(edges)]
    if len(sizes) == 1:
        return (mb.identity(x=x),)
    return tuple(mb.split(x=x, split_sizes=sizes, axis=dim))


def open_sections(mb: Builder, x: Var, count: int, dim: int) -> tuple[Var, ...]:
    """Nearly equal parts of an axis whose size n the app chooses: the first `n % count` have one more entry."""
    size = axis_size(mb, x, dim)
    small = mb.floor_div(x=size, y=count)
    larger = mb.sub(x=size, y=mb.mul(x=small, y=count))
    inner = [mb.add(x=mb.mul(x=small, y=part), y=mb.minimum(x=larger, y=part)) for part in range(1, count)]
    return tuple(slice_axis(mb, x, dim, *edges) for edges in pairwise([None, *inner, None]))


def open_chunks(mb: Builder, x: Var, count: int, dim: int) -> tuple[Var, ...]:
    """`count` parts of an axis whose size n the app chooses: all but the last have `ceil(n / count)` entries."""
    part = mb.floor_div(x=mb.add(x=axis_size(mb, x, dim), y=count - 1), y=count)
    inner = [mb.mul(x=part, y=each) for each in range(1, count)]
    return tuple(slice_axis(mb, x, dim, *edges) for edges in pairwise([None, *inner, None]))


def split_with_sizes(mb: Builder, x: Var, split_sizes: Sequence[Size], dim: int = 0) -> tuple[Var, ...]:
    """Parts whose sizes follow from sizes that the app chooses."""
    edges: list[Size] = [0]
    for size in split_sizes:
        begin = edges[-1]
        edges.append(begin + size if isinstance(begin, int) and isinstance(size, int) else mb.add(x=begin, y=size))
    return tuple(slice_axis(mb, x, dim, *each) for each in pairwise(edges))


def _are_open(split_sizes: Constant) -> bool:
    return is_open(split_sizes)


def vstack(mb: Builder, tensors: Sequence[Var]) -> Var:
    """Stacked as rows."""
    rows = [t if t.rank > 1 else mb.reshape(x=t, shape=[1, -1]) for t in tensors]
    return mb.concat(values=promoted(*rows), axis=0)


def dstack(mb: Builder, tensors: Sequence[Var]) -> Var:
    """Stacked along the third axis."""
    deep = []
    for tensor in tensors:
        if tensor.rank < 2:
            tensor = mb.reshape(x=tensor, shape=[1, -1])
        deep.append(mb.expand_dims(x=tensor, axes=[-1]) if tensor.rank == 2 else tensor)
    return mb.concat(values=promoted(*deep), axis=2)


def column_stack(mb: Builder, tensors: Sequence[Var]) -> Var:
    """Vectors as columns, joined with the columns of matrices."""
    columns = [t if t.rank > 1 else mb.reshape(x=t, shape=[-1, 1]) for t in tensors]
    return mb.concat(values=promoted(*columns), axis=1)


def diag_embed(mb: Builder, x: Var, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Var:
    """The last axis as the diagonal of new last two axes."""
    import numpy as np

    if (dim1, dim2) != (-2, -1):
        raise NotImplementedError("diag_embed into other axes than the last two is not converted")
    length = fixed_size(x, -1, "diag_embed")
    kind = numpy_dtype(x)
    side = np.eye(length + abs(offset), dtype=kind)
    rows = side[:length] if offset >= 0 else side[-offset:]
    columns = side[offset:][:length] if offset >= 0 else side[:length]
    return mb.matmul(x=rows.T, y=mb.mul(x=mb.expand_dims(x=x, axes=[-1]), y=columns))


def take_along_dim(mb: Builder, x: Var, indices: Var, dim: int | None = None) -> Var:
    """The entries at indices along one axis (of all in one axis where none is named)."""
    if dim is None:
        return mb.gather_along_axis(x=ravel(mb, x), indices=ravel(mb, indices), axis=0)
    return mb.gather_along_axis(x=x, indices=indices, axis=dim)


def take_flat(mb: Builder, x: Var, index: Var) -> Var:
    """`x.take(index)`: entries of all elements in one axis."""
    return mb.gather(x=ravel(mb, x), indices=mb.cast(x=index, dtype="int32"), axis=0)


def index_fill(mb: Builder, x: Var, dim: int, index: Var, value: Var) -> Var:
    """X with `value` at indices along one axis, counted from the end where they are negative."""
    import numpy as np

    size, axis = fixed_size(x, dim, "index_fill"), positive(dim, x.rank)
    places = mb.reshape(x=mb.cast(x=index, dtype="int32"), shape=[1, -1])
    places = mb.select(cond=mb.less(x=places, y=0), a=mb.add(x=places, y=size), b=places)
    meets = mb.equal(x=np.arange(size, dtype=np.int32).reshape(-1, 1), y=places)
    chosen = mb.reduce_max(x=mb.cast(x=meets, dtype="int32"), axes=[1], keep_dims=False)
    shape = [size if other == axis else 1 for other in range(x.rank)]
    where = mb.reshape(x=mb.cast(x=chosen, dtype="bool"), shape=shape)
    return selected(mb, where, mb.cast(x=value, dtype=dtype_name(x)), x)


SHAPE = (
    *(Lowering(operator=name, lower=swapaxes) for name in ("swapaxes", "swapdims")),
    *(
        Lowering(operator=name, lower=movedim)
        for name in ("movedim", "movedim.intlist", "moveaxis", "moveaxis.intlist")
    ),
    Lowering(
        operator="narrow",
        lower=narrow,
        wrong=UpstreamBug(issue=2774, summary="gives nothing where the start counts from the end"),
        applies=_starts_at_the_end,
    ),
    Lowering(operator="diff", lower=diff),
    *(Lowering(operator=name, lower=unfold) for name in ("unfold", "unfold_copy")),
    *(Lowering(operator=name, lower=as_strided) for name in ("as_strided", "as_strided_copy")),
    *(Lowering(operator=name, lower=channel_shuffle) for name in ("channel_shuffle", "native_channel_shuffle")),
    Lowering(operator="rot90", lower=rot90),
    Lowering(
        operator="flip",
        lower=flip,
        wrong=UpstreamBug(issue=None, summary="leaves a constant as a view backwards, which its `to` cannot take"),
        applies=lambda x: x.val is not None,
    ),
    Lowering(operator="flipud", lower=flipud),
    *(Lowering(operator=name, lower=matrix_transposed) for name in ("mt", "adjoint", "mh")),
    Lowering(operator="ravel", lower=ravel),
    Lowering(operator="view_as", lower=view_as),
    *(
        Lowering(operator=name, lower=tensor_split)
        for name in ("tensor_split", "tensor_split.sections", "tensor_split.indices")
    ),
    *(
        Lowering(operator=name, lower=split_with_sizes, upstream_gap="sizes that the app chooses", applies=_are_open)
        for name in ("split_with_sizes", "split_with_sizes_copy", "split.sizes", "split")
    ),
    *(Lowering(operator=name, lower=vstack) for name in ("vstack", "row_stack")),
    Lowering(operator="dstack", lower=dstack),
    Lowering(operator="column_stack", lower=column_stack),
    Lowering(operator="diag_embed", lower=diag_embed),
    Lowering(operator="take_along_dim", lower=take_along_dim),
    Lowering(operator="take", lower=take_flat),
    *(
        Lowering(operator=name, lower=index_fill)
        for name in ("index_fill", "index_fill.int_scalar", "index_fill.int_tensor")
    ),
)
