"""Values gathered at indices, and reduced where several meet; elements repeated unequally often."""

from __future__ import annotations

import math
from numbers import Integral

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import dtype_name, fixed_shape, is_constant, numpy_dtype, positive

_MODES = {"sum": "add", "mean": "add", "prod": "mul", "amax": "max", "amin": "min"}


def scatter_reduce(mb: Builder, x: Var, dim: int, index: Var, src: Var, reduce: str, include_self: bool = True) -> Var:
    """X with `src` reduced into it at the indices along one axis; x counts too with `include_self`."""
    import numpy as np

    sizes, axis = fixed_shape(index, "scatter_reduce"), positive(dim, x.rank)
    if any(size != whole for i, (size, whole) in enumerate(zip(sizes, x.shape, strict=True)) if i != axis):
        raise NotImplementedError("scatter_reduce with indices for a part of the other axes is not converted")
    kind = numpy_dtype(x)
    src = mb.slice_by_size(x=src, begin=[0] * x.rank, size=sizes)

    def put(data: Var, updates: Var, mode: str) -> Var:
        return mb.scatter_along_axis(data=data, indices=index, updates=updates, axis=axis, mode=mode)

    if not include_self:
        limits = np.finfo(kind) if np.issubdtype(kind, np.floating) else np.iinfo(kind)
        neutral = {"sum": 0, "mean": 0, "prod": 1, "amax": limits.min, "amin": limits.max}[reduce]
        x = put(x, np.full(sizes, neutral, dtype=kind), "update")
    reduced = put(x, src, _MODES[reduce])
    if reduce != "mean":
        return reduced
    once, counts = np.ones(sizes, dtype=np.float32), np.ones([int(size) for size in x.shape], dtype=np.float32)
    if is_constant(index):  # coremltools itself, where all is known, adds only one of those that meet
        where = np.indices(sizes)
        where[axis] = index.val
        counts[tuple(where)] = include_self
        np.add.at(counts, tuple(where), 1)
        return mb.real_div(x=reduced, y=counts)
    return mb.real_div(x=reduced, y=put(counts if include_self else put(counts, 0 * once, "update"), once, "add"))


def scatter(mb: Builder, x: Var, dim: int, index: Var, src: Var, reduce: str | None = None) -> Var:
    """X with `src`, or a number, written at the indices along one axis; indices may be for a part of the other axes.

    Places count through all elements: `index * stride + where the element of the index stands on the other axes`.
    """
    import numpy as np

    sizes, whole, axis = fixed_shape(index, "scatter"), fixed_shape(x, "scatter"), positive(dim, max(x.rank, 1))
    if not sizes:
        raise NotImplementedError("scatter into a tensor without axes is not converted")
    strides = [math.prod(whole[i + 1 :]) for i in range(x.rank)]
    steps = [stride if i != axis else 0 for i, stride in enumerate(strides)]
    others = np.tensordot(np.array(steps), np.indices(sizes), 1).astype(np.int32)
    places = mb.add(x=mb.mul(x=mb.cast(x=index, dtype="int32"), y=strides[axis]), y=others)
    written = mb.cast(x=src, dtype=dtype_name(x)) if src.dtype != x.dtype else src
    if src.rank:
        written = mb.slice_by_size(x=written, begin=[0] * x.rank, size=sizes)
    else:
        written = mb.tile(x=mb.reshape(x=written, shape=[1] * x.rank), reps=sizes)
    flat, places, written = (mb.reshape(x=each, shape=[-1]) for each in (x, places, written))
    mode = {"add": "add", "multiply": "mul"}.get(reduce or "", "update")
    result = mb.scatter(data=flat, indices=places, updates=written, axis=0, mode=mode)
    return mb.reshape(x=result, shape=whole)


def scatter_add(mb: Builder, x: Var, dim: int, index: Var, src: Var) -> Var:
    """X with `src` added at the indices along one axis."""
    return scatter(mb, x, dim, index, src, "add")


def _is_uneven(x: Var, dim: int, index: Var, src: Var) -> bool:
    """Whether indices are for a part of the other axes, or what is written has another dtype or larger axes."""
    if src.dtype != x.dtype:
        return True
    if not all(isinstance(size, Integral) for var in (x, index, src) for size in var.shape):
        return False
    axis, pairs = positive(dim, max(x.rank, 1)), enumerate(zip(index.shape, x.shape, strict=True))
    if any(size != whole for i, (size, whole) in pairs if i != axis):
        return True
    return bool(src.rank) and tuple(src.shape) != tuple(index.shape)


def repeat_interleave(
    mb: Builder, x: Var, repeats: Var | None = None, dim: int | None = None, output_size: int | None = None
) -> Var:
    """Each element along an axis as often as a constant says; of the numbers alone, which element each one is."""
    import numpy as np

    del output_size
    numbers = x if repeats is None else repeats
    if not is_constant(numbers):
        raise NotImplementedError("repeat_interleave as often as the input says gives a size that depends on values")
    places = np.repeat(np.arange(len(numbers.val), dtype=np.int32), numbers.val)
    if repeats is None:
        return mb.const(val=places)
    x = mb.reshape(x=x, shape=[-1]) if dim is None else x
    return mb.gather(x=x, indices=places, axis=0 if dim is None else dim)


def _repeats_differ(x: Var, repeats: Var | None = None) -> bool:
    numbers = x if repeats is None else repeats
    return bool(numbers.rank == 1 and (repeats is None or numbers.shape[0] != 1))


_UNEVEN = "indices for a part of the other axes and numbers of another dtype"

SCATTERING = (
    *(
        Lowering(operator=name, lower=scatter, upstream_gap=_UNEVEN, applies=_is_uneven)
        for name in ("scatter", "scatter.src", "scatter.value", "scatter.reduce", "scatter.value_reduce")
    ),
    Lowering(operator="scatter_add", lower=scatter_add, upstream_gap=_UNEVEN, applies=_is_uneven),
    *(Lowering(operator=name, lower=scatter_reduce) for name in ("scatter_reduce", "scatter_reduce.two")),
    *(
        Lowering(operator=name, lower=repeat_interleave, upstream_gap="numbers that differ", applies=_repeats_differ)
        for name in ("repeat_interleave", "repeat_interleave.self_tensor")
    ),
)
