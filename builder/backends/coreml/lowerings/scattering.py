"""Values gathered at indices, and reduced where several meet; elements repeated unequally often."""

from __future__ import annotations

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import fixed_shape, is_constant, numpy_dtype, positive

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


SCATTERING = (
    *(Lowering(operator=name, lower=scatter_reduce) for name in ("scatter_reduce", "scatter_reduce.two")),
    *(
        Lowering(operator=name, lower=repeat_interleave, upstream_gap="numbers that differ", applies=_repeats_differ)
        for name in ("repeat_interleave", "repeat_interleave.self_tensor")
    ),
)
