"""What attention masks are made from: ones, and triangles of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, UpstreamBug, Var
from builder.backends.coreml.lowerings.variables import (
    dtype_name,
    fixed_size,
    is_bool,
    numpy_dtype,
    selected,
    zeros_like,
)

if TYPE_CHECKING:
    import numpy as np


def triu(mb: Builder, x: Var, diagonal: int = 0) -> Var:
    """The upper triangle of (…, H, W), zeros elsewhere: chosen, not subtracted, since infinity less itself is NaN."""
    import numpy as np

    if not _is_fixed(x):
        return _left_of(mb, x, lower=-1, upper=diagonal - 1)
    return _chosen(mb, x, np.triu(_all_true(x), diagonal))


def tril(mb: Builder, x: Var, diagonal: int = 0) -> Var:
    """The lower triangle of (…, H, W), zeros elsewhere."""
    import numpy as np

    if not _is_fixed(x):
        return _left_of(mb, x, lower=-diagonal - 1, upper=-1)
    return _chosen(mb, x, np.tril(_all_true(x), diagonal))


def _is_fixed(x: Var) -> bool:
    return all(isinstance(size, int) for size in x.shape)


def _left_of(mb: Builder, x: Var, *, lower: int, upper: int) -> Var:
    """X without a band of it, where the app chooses the sizes."""
    band = mb.band_part(x=mb.fill(shape=mb.shape(x=x), value=True), lower=lower, upper=upper)
    kept = mb.logical_not(x=band)
    return mb.logical_and(x=x, y=kept) if is_bool(x) else mb.select(cond=kept, a=x, b=zeros_like(mb, x))


def _all_true(x: Var) -> np.ndarray:
    import numpy as np

    return np.ones([fixed_size(x, axis, "a triangle") for axis in (-2, -1)], dtype=bool)


def _chosen(mb: Builder, x: Var, kept: np.ndarray) -> Var:
    import numpy as np

    if is_bool(x):
        return mb.logical_and(x=x, y=kept)
    whole = np.broadcast_to(kept, [fixed_size(x, axis, "a triangle") for axis in range(x.rank)]).copy()
    if x.val is not None:
        return mb.const(val=np.where(whole, x.val, numpy_dtype(x)(0)))
    return mb.select(cond=whole, a=x, b=zeros_like(mb, x))


def _is_subtracted(diagonal: int = 0) -> bool:
    """Whether coremltools subtracts the other triangle."""
    return diagonal > 0


def _is_subtracted_below(diagonal: int = 0) -> bool:
    return diagonal < 0


def where(mb: Builder, condition: Var, x: Var, other: Var) -> Var:
    """X where the condition holds, else `other`; one or both are numbers, which take the other's dtype."""
    return selected(mb, condition if is_bool(condition) else mb.cast(x=condition, dtype="bool"), x, other)


def masked_fill(mb: Builder, x: Var, mask: Var, value: Var) -> Var:
    """X with a number where the mask holds; x and mask broadcast to each other."""
    mask = mask if is_bool(mask) else mb.cast(x=mask, dtype="bool")
    filled = mb.cast(x=value, dtype=dtype_name(x)) if value.dtype != x.dtype else value
    return selected(mb, mask, filled, x)


def masked_scatter(mb: Builder, x: Var, mask: Var, source: Var) -> Var:
    """X with the elements of `source`, one after the other, where the mask holds.

    The number of places up to each one, less 1, is the place in `source`.
    """
    from coremltools.converters.mil.frontend._utils import pymil_broadcast_tensors

    mask, x = pymil_broadcast_tensors([mask if is_bool(mask) else mb.cast(x=mask, dtype="bool"), x])
    shape = mb.shape(x=x)
    holds = mb.reshape(x=mask, shape=[-1])
    place = mb.sub(x=mb.cumsum(x=mb.cast(x=holds, dtype="int32"), axis=0), y=1)
    flat = mb.reshape(x=source, shape=[-1])
    last = mb.sub(x=mb.slice_by_size(x=mb.shape(x=flat), begin=[0], size=[1]), y=1)
    within = mb.minimum(x=mb.maximum(x=place, y=0), y=last)
    chosen = selected(mb, holds, mb.gather(x=flat, indices=within, axis=0), mb.reshape(x=x, shape=[-1]))
    return mb.reshape(x=chosen, shape=list(x.shape) if all(isinstance(s, int) for s in x.shape) else shape)


def _is_larger(x: Var, mask: Var) -> bool:
    """Whether the mask has axes that x has not, or larger ones."""
    if mask.rank > x.rank:
        return True
    pairs = zip(x.shape[x.rank - mask.rank :], mask.shape, strict=True)
    return any(isinstance(size, int) and size == 1 and other != 1 for size, other in pairs)


def _mixes_dtypes(x: Var, other: Var) -> bool:
    return bool(x.dtype != other.dtype)


def _is_one_truth(condition: Var, x: Var | None = None, other: Var | None = None) -> bool:
    return x is not None and other is not None and max(condition.rank, x.rank, other.rank) == 0


_INFINITE = UpstreamBug(issue=2771, summary="makes NaN of infinite elements", fixed_in="9.1.dev0")

MASKS = (
    *(
        Lowering(operator=name, lower=where, upstream_gap="one truth alone", applies=_is_one_truth)
        for name in ("where", "where.self")
    ),
    *(
        Lowering(operator=f"where.{name}", lower=where, upstream_gap="numbers of another dtype", applies=_mixes_dtypes)
        for name in ("scalarself", "scalarother")
    ),
    Lowering(
        operator="masked_fill",
        lower=masked_fill,
        wrong=UpstreamBug(issue=None, summary="takes the shape of the result from the tensor alone, not from the mask"),
        applies=_is_larger,
    ),
    Lowering(operator="masked_scatter", lower=masked_scatter),
    Lowering(operator="triu", lower=triu, wrong=_INFINITE, applies=_is_subtracted),
    Lowering(operator="tril", lower=tril, wrong=_INFINITE, applies=_is_subtracted_below),
)
