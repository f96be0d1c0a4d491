"""Operators that make one number of many."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, UpstreamBug, Var
from builder.backends.coreml.lowerings.signs import isinf
from builder.backends.coreml.lowerings.variables import all_axes, as_float, is_bool, promoted, selected, zeros_like

Axes = Sequence[int] | int | None

_NARROW = (0, 1, 2)
"""torch's numbers of uint8, int8 and int16."""


def prod(mb: Builder, x: Var, dim: int | None = None, keepdim: bool = False, dtype: int | None = None) -> Var:
    """The product over one axis, or over all."""
    del dtype  # integers stay integers: Core ML has but one kind
    if isinstance(keepdim, bool) and isinstance(dim, int) and not isinstance(dim, bool):
        return mb.reduce_prod(x=x, axes=[dim], keep_dims=keepdim)
    return mb.reduce_prod(x=x, axes=list(range(x.rank)), keep_dims=False)


def cumsum(mb: Builder, x: Var, dim: int, dtype: int | None = None) -> Var:
    """The sums up to each element along an axis; booleans count as integers."""
    from coremltools.converters.mil.frontend.torch.utils import NUM_TO_DTYPE_STRING

    wanted = "int32" if is_bool(x) else None
    if dtype is not None:
        wanted = "int32" if dtype in _NARROW else NUM_TO_DTYPE_STRING[dtype]  # which then wraps (module `narrow`)
    return mb.cumsum(x=x if wanted is None else mb.cast(x=x, dtype=wanted), axis=dim % x.rank)


def aminmax(mb: Builder, x: Var, dim: int | None = None, keepdim: bool = False) -> tuple[Var, Var]:
    """The least and the greatest value."""
    axes = list(range(x.rank)) if dim is None else [dim]
    return (
        mb.reduce_min(x=x, axes=axes, keep_dims=bool(keepdim)),
        mb.reduce_max(x=x, axes=axes, keep_dims=bool(keepdim)),
    )


def count_nonzero(mb: Builder, x: Var, dim: Axes = None) -> Var:
    """How many elements are not zero."""
    axes = list(range(x.rank)) if dim is None or dim == [] else [dim] if isinstance(dim, int) else list(dim)
    ones = mb.cast(x=x if is_bool(x) else mb.not_equal(x=x, y=zeros_like(mb, x)), dtype="int32")
    return mb.reduce_sum(x=ones, axes=axes, keep_dims=False)


def cdist(mb: Builder, x1: Var, x2: Var, p: float = 2.0, compute_mode: int | None = None) -> Var:
    """The p-norm distance of each row of x1 (…, P, M) to each of x2 (…, R, M): (…, P, R)."""
    del compute_mode  # how torch computes it
    x1, x2 = promoted(x1, x2)
    if max(x1.rank, x2.rank) > 4:
        raise NotImplementedError("cdist of more than four dimensions is not converted: flatten the leading ones")
    difference = mb.sub(x=mb.expand_dims(x=x1, axes=[-2]), y=mb.expand_dims(x=x2, axes=[-3]))
    return norm(mb, difference, float(p))


def dist(mb: Builder, x: Var, other: Var, p: float = 2.0) -> Var:
    """The p-norm of all of `x - other`."""
    x, other = promoted(as_float(x), as_float(other))
    difference = mb.reshape(x=mb.sub(x=x, y=other), shape=[-1])
    return vector_norm(mb, difference, p) if 0 < p < 1e30 else norm(mb, difference, float(p))


def pairwise_distance(mb: Builder, x1: Var, x2: Var, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Var:
    """The p-norm of `x1 - x2 + eps` over the last axis."""
    x1, x2 = promoted(x1, x2)
    return norm(mb, mb.add(x=as_float(mb.sub(x=x1, y=x2)), y=float(eps)), float(p), keepdim=bool(keepdim))


def cosine_similarity(mb: Builder, x1: Var, x2: Var, dim: int = 1, eps: float = 1e-8) -> Var:
    """The sum of products of both after each is divided by its norm, which is at least eps."""
    x1, x2 = (_of_length_one(mb, x, dim, float(eps)) for x in promoted(as_float(x1), as_float(x2)))
    if x1.rank != x2.rank:
        from coremltools.converters.mil.frontend._utils import pymil_broadcast_tensors

        x1, x2 = pymil_broadcast_tensors([x1, x2])
    return mb.reduce_sum(x=mb.mul(x=x1, y=x2), axes=[dim], keep_dims=False)


def _of_length_one(mb: Builder, x: Var, dim: int, eps: float) -> Var:
    """X over its norm along an axis. Everything is divided by the greatest magnitude m first: `x / m / |x / m|`."""
    size = mb.reduce_max(x=mb.abs(x=x), axes=[dim], keep_dims=True)
    largest = mb.maximum(x=size, y=promoted(size, _LEAST)[1])
    share = mb.real_div(x=x, y=largest)
    length = mb.sqrt(x=mb.reduce_sum(x=mb.mul(x=share, y=share), axes=[dim], keep_dims=True))
    least = mb.maximum(x=mb.real_div(x=promoted(largest, eps)[1], y=largest), y=promoted(largest, _LEAST)[1])
    return mb.real_div(x=share, y=mb.maximum(x=length, y=least))


_LEAST = 2.0**-14
"""The least normal number of half precision."""


def extreme_place(name: str, mb: Builder, x: Var, dim: int | None = None, keepdim: bool = False) -> Var:
    """Where the greatest (or least) of all elements is, counted along all axes as one."""
    reduce = getattr(mb, f"reduce_{name}")
    if dim is not None:
        return reduce(x=as_number(mb, x), axis=dim, keep_dims=bool(keepdim))
    place = reduce(x=mb.reshape(x=as_number(mb, x), shape=[-1]), axis=0, keep_dims=False)
    return mb.reshape(x=place, shape=[1] * x.rank) if keepdim and x.rank else place


def as_number(mb: Builder, x: Var) -> Var:
    """X, booleans as integers."""
    return mb.cast(x=x, dtype="int32") if is_bool(x) else x


def norm(mb: Builder, x: Var, p: float, *, keepdim: bool = False) -> Var:
    """The p-norm over the last axis; p is 0 or more, or infinite (traces write it as 3.4e38)."""
    if p == 2:
        return mb.reduce_l2_norm(x=x, axes=[-1], keep_dims=keepdim)
    if p == 1:
        return mb.reduce_l1_norm(x=x, axes=[-1], keep_dims=keepdim)
    size = mb.abs(x=x)
    if p == 0:
        return mb.reduce_sum(x=mb.cast(x=mb.greater(x=size, y=0.0), dtype="fp32"), axes=[-1], keep_dims=keepdim)
    if p > 1e38:
        return mb.reduce_max(x=size, axes=[-1], keep_dims=keepdim)
    total = mb.reduce_sum(x=mb.pow(x=size, y=p), axes=[-1], keep_dims=keepdim)
    return mb.pow(x=total, y=1 / p)


def vector_norm(
    mb: Builder,
    x: Var,
    ord: float = 2,
    dim: Axes = None,
    keepdim: bool = False,
    dtype: int | None = None,
) -> Var:
    """The p-norm for any p above 0, from the greatest magnitude m: `m (sum (|x| / m)^p)^(1 / p)`; of 0 the count."""
    del dtype
    x, axes = as_float(x), all_axes(dim, x.rank)
    if ord == 0:
        counted = mb.cast(x=mb.not_equal(x=x, y=0.0), dtype="int32")
        return mb.cast(
            x=mb.reduce_sum(x=counted, axes=axes, keep_dims=bool(keepdim)) if axes else counted, dtype="fp32"
        )
    if not axes:
        return mb.abs(x=x)
    size = mb.abs(x=x)
    largest = mb.reduce_max(x=size, axes=axes, keep_dims=True)
    largest = mb.maximum(x=largest, y=promoted(largest, _LEAST)[1])
    powers = mb.pow(x=mb.real_div(x=size, y=largest), y=float(ord))
    total = mb.pow(x=mb.reduce_sum(x=powers, axes=axes, keep_dims=True), y=1 / float(ord))
    result = selected(mb, isinf(mb, largest), largest, mb.mul(x=total, y=largest))
    return result if keepdim else mb.squeeze(x=result, axes=axes)


def _is_a_power(ord: float = 2) -> bool:
    return isinstance(ord, int | float) and 0 <= ord < 1e30 and ord != 2


def bucketize(mb: Builder, x: Var, boundaries: Var, out_int32: bool = False, right: bool = False) -> Var:
    """How many of the sorted boundaries (B,) lie below each element; all below NaN."""
    del out_int32  # Core ML has but one kind of integer
    shape = mb.shape(x=x)
    elements, edges = promoted(mb.reshape(x=x, shape=[-1, 1]), mb.reshape(x=boundaries, shape=[1, -1]))
    return mb.reshape(x=places_among(mb, elements, edges, right=right), shape=shape)


def places_among(mb: Builder, elements: Var, edges: Var, *, right: bool) -> Var:
    """How many edges (…, 1, B) lie below each of the elements (…, N, 1), with `right` at it too: (…, N)."""
    beyond = mb.less(x=elements, y=edges) if right else mb.less_equal(x=elements, y=edges)
    below = mb.cast(x=mb.logical_not(x=beyond), dtype="int32")  # of NaN no comparison is true
    return mb.reduce_sum(x=below, axes=[-1], keep_dims=False)


REDUCTION = (
    *(Lowering(operator=name, lower=prod) for name in ("prod", "prod.dim_int")),
    Lowering(
        operator="cumsum",
        lower=cumsum,
        upstream_gap="axes that are counted from the end, but the last, and integers of 8 and 16 bits",
        applies=lambda dim, dtype=None: dim < -1 or dtype in _NARROW,
    ),
    Lowering(operator="aminmax", lower=aminmax),
    *(
        Lowering(
            operator=name,
            lower=partial(extreme_place, name),
            wrong=UpstreamBug(issue=None, summary="takes the last axis where none is named"),
            applies=lambda dim=None: dim is None,
        )
        for name in ("argmax", "argmin")
    ),
    Lowering(
        operator="cosine_similarity",
        lower=cosine_similarity,
        wrong=UpstreamBug(issue=None, summary="multiplies squared norms, which half precision does not hold beyond 16"),
    ),
    *(Lowering(operator=name, lower=count_nonzero) for name in ("count_nonzero", "count_nonzero.dim_intlist")),
    *(Lowering(operator=name, lower=cdist) for name in ("cdist", "_cdist_forward", "_euclidean_dist")),
    Lowering(
        operator="linalg_vector_norm",
        lower=vector_norm,
        wrong=UpstreamBug(issue=None, summary="takes powers that half precision does not hold, and counts in integers"),
        applies=_is_a_power,
    ),
    Lowering(operator="dist", lower=dist),
    Lowering(operator="pairwise_distance", lower=pairwise_distance),
    Lowering(operator="bucketize", lower=bucketize),
)
