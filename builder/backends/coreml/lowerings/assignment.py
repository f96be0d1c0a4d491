"""Operators that give a tensor with a part of it replaced: what in-place writes become (module `writes`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, UpstreamBug, Var
from builder.backends.coreml.lowerings.variables import (
    dtype_name,
    fixed_shape,
    is_bool,
    is_constant,
    numpy_dtype,
    positive,
    zeros_like,
)

if TYPE_CHECKING:
    import numpy as np


def copy(mb: Builder, x: Var, src: Var, non_blocking: bool = False) -> Var:
    """`src` in the shape and dtype of x."""
    del non_blocking
    src = copy_dtype(mb, src, x)
    if tuple(src.shape) == tuple(x.shape):
        return mb.identity(x=src)
    if all(isinstance(size, int) for size in (*x.shape, *src.shape)):
        return _repeated(mb, src, x.shape)
    zeros = zeros_like(mb, x)
    return mb.logical_or(x=zeros, y=src) if is_bool(x) else mb.add(x=zeros, y=src)


def fill(mb: Builder, x: Var, value: Var) -> Var:
    """One value in the shape and dtype of x."""
    if not is_constant(value):
        return copy(mb, x, value)
    number = numpy_dtype(x)(value.val.item() if hasattr(value.val, "item") else value.val)
    return mb.fill(shape=mb.shape(x=x), value=number) if x.rank else mb.const(val=number)


def diagonal(mb: Builder, x: Var, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Var:
    """A diagonal of two axes, as the last axis."""
    places = _diagonal_places(x, offset, dim1, dim2)
    flat = mb.gather(x=mb.reshape(x=_as_number(mb, x), shape=[-1]), indices=places.reshape(-1), axis=0)
    taken = mb.reshape(x=flat, shape=places.shape)
    return mb.cast(x=taken, dtype="bool") if is_bool(x) else taken


def _diagonal_places(x: Var, offset: int, dim1: int, dim2: int) -> np.ndarray:
    """Where the elements of a diagonal are among all of x."""
    import numpy as np

    sizes = fixed_shape(x, "a diagonal")
    places = np.arange(math.prod(sizes), dtype=np.int32).reshape(sizes)
    return np.ascontiguousarray(places.diagonal(offset, dim1, dim2))


def diagonal_scatter(mb: Builder, x: Var, src: Var, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Var:
    """X with `src` on a diagonal of two axes."""
    return _at_places(mb, x, src, _diagonal_places(x, offset, dim1, dim2))


def _at_places(mb: Builder, x: Var, src: Var, places: np.ndarray) -> Var:
    """X with `src` at constant places among all its elements."""
    flat = mb.scatter(
        data=mb.reshape(x=_as_number(mb, x), shape=[-1]),
        indices=places.reshape(-1),
        updates=mb.reshape(x=_as_number(mb, copy_dtype(mb, src, x)), shape=[-1]),
        axis=0,
        mode="update",
    )
    put = mb.reshape(x=flat, shape=fixed_shape(x, "a scatter"))
    return mb.cast(x=put, dtype="bool") if is_bool(x) else put


def as_strided_scatter(
    mb: Builder, x: Var, src: Var, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Var:
    """X with `src` at fixed places in memory, as `fill_diagonal_` has it."""
    import numpy as np

    memory = np.arange(math.prod(fixed_shape(x, "as_strided_scatter")), dtype=np.int32)
    offset = memory[storage_offset or 0 :]
    places = np.lib.stride_tricks.as_strided(offset, size, [step * memory.itemsize for step in stride])
    return _at_places(mb, x, src, np.ascontiguousarray(places))


def fill_diagonal(mb: Builder, x: Var, fill_value: float, wrap: bool = False) -> Var:
    """X with one value on the diagonal of all its axes."""
    import numpy as np

    if wrap:
        raise NotImplementedError("fill_diagonal_ with wrap is not converted")
    sizes = fixed_shape(x, "fill_diagonal_")
    places = np.ravel_multi_index([np.arange(min(sizes))] * len(sizes), sizes).astype(np.int32)
    return _at_places(mb, x, mb.const(val=np.full(places.shape, fill_value, dtype=numpy_dtype(x))), places)


def index_copy(mb: Builder, x: Var, dim: int, index: Var, source: Var) -> Var:
    """X with `source` at the indices along one axis."""
    return _put_by_places(mb, x, _along(x, dim, index), copy_dtype(mb, source, x), accumulate=False)


def index_add(mb: Builder, x: Var, dim: int, index: Var, source: Var, alpha: float = 1) -> Var:
    """X with `alpha * source` added at the indices along one axis."""
    source = copy_dtype(mb, source, x)
    source = source if alpha == 1 else mb.mul(x=source, y=numpy_dtype(x)(alpha))
    return _put_by_places(mb, x, _along(x, dim, index), source, accumulate=True)


def _along(x: Var, dim: int, index: Var) -> list[Var | None]:
    return [None] * positive(dim, x.rank) + [index]


def copy_dtype(mb: Builder, src: Var, x: Var) -> Var:
    """`src` in the dtype of x."""
    return src if src.dtype == x.dtype else mb.cast(x=src, dtype=dtype_name(x))


def index_put(
    mb: Builder, x: Var, indices: Sequence[Var], values: Var, accumulate: bool = False, unsafe: bool = False
) -> Var:
    """`x[indices] = values`, or += where it accumulates; an index of None is a whole axis."""
    del unsafe
    values = copy_dtype(mb, values, x)
    if _is_chosen(x, indices, values, accumulate):
        return _put_by_mask(mb, x, indices, values)
    return _put_by_places(mb, x, _without_masks(indices), values, accumulate)


def _put_by_mask(mb: Builder, x: Var, indices: Sequence[Var], values: Var) -> Var:
    """A choice between x and values, which are the same wherever the mask holds: no size depends on values."""
    (axis,) = (i for i, index in enumerate(indices) if index is not None)
    mask = indices[axis]
    behind = x.rank - axis - mask.rank
    while values.rank > behind:
        values = mb.squeeze(x=values, axes=[0])
    shape = fixed_shape(x, "a mask")
    whole = mb.reshape(x=mask, shape=[*([1] * axis), *shape[axis : axis + mask.rank], *([1] * behind)])
    return mb.select(cond=_repeated(mb, whole, shape), a=_repeated(mb, values, shape), b=x)


def _put_by_places(mb: Builder, x: Var, indices: Sequence[Any], values: Var, accumulate: bool) -> Var:
    """The indexed axes in front, where `scatter_nd` takes them, and back.

    torch puts the axes of the indices (I…) where the first of them was, or in front where whole axes lie in between.
    """
    import numpy as np

    sizes = fixed_shape(x, "an index")
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    rest = [axis for axis in range(x.rank) if axis not in axes]
    shape = list(np.broadcast_shapes(*(tuple(indices[axis].shape) for axis in axes)))
    places = [_from_front(mb, indices[axis], sizes[axis], shape) for axis in axes]
    first = axes[0] if axes == list(range(axes[0], axes[0] + len(axes))) else 0
    before, behind = [sizes[axis] for axis in rest[:first]], [sizes[axis] for axis in rest[first:]]
    updates = _repeated(mb, values, [*before, *shape, *behind])
    if first and shape:
        ranks = [*range(first, first + len(shape)), *range(first), *range(first + len(shape), updates.rank)]
        updates = mb.transpose(x=updates, perm=ranks)
    order = [*axes, *rest]
    put = mb.scatter_nd(
        data=mb.transpose(x=_as_number(mb, x), perm=order),
        indices=mb.stack(values=places, axis=len(shape)),
        updates=_as_number(mb, updates),
        mode="add" if accumulate else "update",
    )
    back = mb.transpose(x=put, perm=[order.index(axis) for axis in range(x.rank)])
    return mb.cast(x=back, dtype="bool") if is_bool(x) else back


def _from_front(mb: Builder, index: Var | np.ndarray, size: int, shape: Sequence[int]) -> Var:
    """Indices counted from the front, of a common shape."""
    import numpy as np

    known = index if isinstance(index, np.ndarray) else index.val
    if known is not None:
        known = np.asarray(known)
        return mb.const(val=np.broadcast_to(np.where(known < 0, known + size, known), shape).astype(np.int32))
    from_front = mb.select(cond=mb.less(x=index, y=0), a=mb.add(x=index, y=size), b=index)
    return _repeated(mb, from_front, shape)


def _without_masks(indices: Sequence[Var]) -> list[Var | np.ndarray | None]:
    """Constant masks as the places where they hold. Raises NotImplementedError for others."""
    import numpy as np

    found: list[Var | np.ndarray | None] = []
    for index in indices:
        if index is None or not is_bool(index):
            found.append(index)
        elif is_constant(index):
            found += [np.asarray(places) for places in np.nonzero(index.val)]
        else:
            raise NotImplementedError(
                "a mask that the input decides takes a value that is the same everywhere: write `torch.where`"
            )
    return found


def _is_chosen(x: Var, indices: Sequence[Var], values: Var, accumulate: bool) -> bool:
    """Whether one mask, which the input decides, takes values that are the same wherever it holds."""
    masks = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if accumulate or len(masks) != 1 or not is_bool(masks[0][1]) or is_constant(masks[0][1]):
        return False
    if not all(isinstance(size, int) for size in x.shape):
        return False
    axis, mask = masks[0]
    behind = x.rank - axis - mask.rank
    ahead = values.shape[: max(0, values.rank - behind)]
    return all(size == 1 for size in ahead) and (axis == 0 or len(ahead) <= 1)


def _is_ours(x: Var, indices: Sequence[Var], values: Var, accumulate: bool = False) -> bool:
    given = [index for index in indices if index is not None]
    if not given:
        return False
    masks = [index for index in given if is_bool(index)]
    if _is_chosen(x, indices, values, bool(accumulate)):
        return True
    alike = len({tuple(index.shape) for index in given}) == 1
    return is_bool(x) or not alike or len(given) < len(indices) or bool(masks and len(given) > 1)


def _as_number(mb: Builder, x: Var) -> Var:
    return mb.cast(x=x, dtype="int32") if is_bool(x) else x


def _repeated(mb: Builder, x: Var, shape: Sequence[int]) -> Var:
    """X broadcast to a fixed shape."""
    shape = [int(size) for size in shape]
    if list(x.shape) == shape:
        return x
    own = [1] * (len(shape) - x.rank) + [int(size) for size in x.shape]
    x = mb.reshape(x=x, shape=own) if x.rank else mb.reshape(x=x, shape=own or [1])
    repeats = [size // mine for size, mine in zip(shape, own, strict=True)]
    if all(times == 1 for times in repeats):
        return x
    number = mb.tile(x=_as_number(mb, x), reps=repeats)
    return mb.cast(x=number, dtype="bool") if is_bool(x) else number


@contextmanager
def assignments() -> Iterator[None]:
    """Let coremltools assign to slices of booleans, which its operator takes from iOS 18 only, and to empty ones.

    Delete this when coremltools casts them itself.
    """
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - as coremltools itself calls it
    from coremltools.converters.mil.frontend.torch import ops
    from coremltools.converters.mil.mil import types

    assign = ops._translate_torch_tensor_assign

    def assign_any(x: Var, updates: Var, *args: object, name: str | None = None, **kwargs: object) -> Var:
        named = {} if name is None else {"name": name}
        if 0 in updates.shape:
            return mb.identity(x=x, **named)
        if not types.is_bool(x.dtype):
            return assign(x, updates, *args, **named, **kwargs)
        numbers = [mb.cast(x=v, dtype="int32") for v in (x, updates)]
        return mb.cast(x=assign(*numbers, *args, **kwargs), dtype="bool", **named)

    ops._translate_torch_tensor_assign = assign_any
    try:
        yield
    finally:
        ops._translate_torch_tensor_assign = assign


ASSIGNMENT = (
    Lowering(operator="copy", lower=copy, upstream_gap="traces, and other dtypes"),
    Lowering(operator="fill", lower=fill, upstream_gap="other dtypes"),
    *(
        Lowering(
            operator=name,
            lower=diagonal,
            wrong=UpstreamBug(issue=None, summary="gives the matrix instead of its diagonal"),
        )
        for name in ("diagonal", "diagonal_copy")
    ),
    Lowering(operator="diagonal_scatter", lower=diagonal_scatter),
    Lowering(operator="as_strided_scatter", lower=as_strided_scatter),
    Lowering(operator="fill_diagonal", lower=fill_diagonal),
    Lowering(operator="index_copy", lower=index_copy),
    Lowering(operator="index_add", lower=index_add),
    Lowering(
        operator="index_put",
        lower=index_put,
        upstream_gap="several indices beside whole axes, and choices by a mask in fixed sizes",
        applies=_is_ours,
    ),
)
