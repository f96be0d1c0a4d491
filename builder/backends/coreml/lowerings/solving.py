"""Small systems of equations by the inverse, and logarithms of determinants; distances and products of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.matrices import det, inverse
from builder.backends.coreml.lowerings.variables import as_float, dtype_name, fixed_shape, fixed_size, positive

if TYPE_CHECKING:
    import numpy as np


def solve(mb: Builder, a: Var, b: Var, left: bool = True, check_errors: bool = False) -> Var:
    """`A⁻¹ B` of (…, n, n) and (…, n, k) or (n), or `B A⁻¹`, for n up to 4.

    The inverse comes from cofactors, which lose digits; what is left of B is solved once more (iterative refinement).
    """
    del check_errors
    a = as_float(a)
    inverted = inverse(mb, a)
    if b.rank == 1 or (b.rank == a.rank - 1 and tuple(b.shape) == tuple(a.shape[:-1])):
        return mb.squeeze(x=_refined(mb, a, inverted, mb.expand_dims(x=b, axes=[-1]), left=True), axes=[-1])
    return _refined(mb, a, inverted, b, left=left)


def _refined(mb: Builder, a: Var, inverted: Var, b: Var, *, left: bool) -> Var:
    def product(matrix: Var, other: Var) -> Var:
        return mb.matmul(x=matrix, y=other) if left else mb.matmul(x=other, y=matrix)

    first = product(inverted, b)
    return mb.add(x=first, y=product(inverted, mb.sub(x=b, y=product(a, first))))


def solve_with_info(mb: Builder, a: Var, b: Var, left: bool = True, check_errors: bool = False) -> tuple[Var, ...]:
    """What exported programs call it; factors and the note of failures are read by nobody."""
    return (solve(mb, a, b, left, check_errors), None, None, None)


def slogdet(mb: Builder, x: Var) -> tuple[Var, Var]:
    """The sign and the logarithm of the magnitude of the determinant; rows are divided by their greatest entry."""
    x = as_float(x)
    largest = mb.maximum(x=mb.reduce_max(x=mb.abs(x=x), axes=[-1], keep_dims=True), y=2.0**-14)
    value = det(mb, mb.real_div(x=x, y=largest))
    scale = mb.reduce_sum(x=mb.log(x=largest), axes=[-2, -1], keep_dims=False)
    return mb.sign(x=value), mb.add(x=mb.log(x=mb.abs(x=value), epsilon=0.0), y=scale)


def slogdet_with_factors(mb: Builder, x: Var) -> tuple[Var, ...]:
    """What exported programs call it."""
    return (*slogdet(mb, x), None, None)


def logdet(mb: Builder, x: Var) -> Var:
    """The logarithm of the determinant, NaN where that is negative."""
    sign, size = slogdet(mb, x)
    negative = mb.cast(x=mb.less(x=sign, y=0.0), dtype="fp32")
    missing = mb.real_div(x=mb.sub(x=1.0, y=negative), y=mb.sub(x=1.0, y=negative))
    return mb.mul(x=size, y=missing)


def bilinear(mb: Builder, x: Var, other: Var, weight: Var, bias: Var | None = None) -> Var:
    """`x W_k other + b_k` of (…, n) and (…, m): the products of all pairs with W as a matrix (k, n m)."""
    rows, columns = fixed_size(x, -1, "bilinear"), fixed_size(other, -1, "bilinear")
    pairs = mb.mul(x=mb.expand_dims(x=x, axes=[-1]), y=mb.expand_dims(x=other, axes=[-2]))
    lead = fixed_shape(x, "bilinear")[:-1]
    count = fixed_size(weight, 0, "bilinear")
    flat = mb.reshape(x=pairs, shape=[*lead, rows * columns])
    result = mb.matmul(x=flat, y=mb.reshape(x=weight, shape=[count, rows * columns]), transpose_y=True)
    return result if bias is None else mb.add(x=result, y=bias)


def pdist(mb: Builder, x: Var, p: float = 2.0) -> Var:
    """The distances of all pairs of rows (n, m), each once: `|a - b|` to the power p, summed, and its root."""
    import numpy as np

    first, second = np.triu_indices(fixed_size(x, 0, "pdist"), 1)
    pairs = [mb.gather(x=x, indices=each.astype(np.int32), axis=0) for each in (first, second)]
    size = mb.abs(x=mb.sub(x=pairs[0], y=pairs[1]))
    if p == float("inf"):
        return mb.reduce_max(x=size, axes=[1], keep_dims=False)
    if p == 0:
        return mb.reduce_sum(x=mb.cast(x=mb.greater(x=size, y=0.0), dtype="fp32"), axes=[1], keep_dims=False)
    if p == 1:
        return mb.reduce_sum(x=size, axes=[1], keep_dims=False)
    largest = mb.maximum(x=mb.reduce_max(x=size, axes=[1], keep_dims=True), y=2.0**-14)
    share = mb.real_div(x=size, y=largest)
    if p == 2:
        root = mb.sqrt(x=mb.reduce_sum(x=mb.mul(x=share, y=share), axes=[1], keep_dims=False))
    else:
        root = mb.pow(x=mb.reduce_sum(x=mb.pow(x=share, y=float(p)), axes=[1], keep_dims=False), y=1 / float(p))
    return mb.mul(x=root, y=mb.squeeze(x=largest, axes=[1]))


def put(mb: Builder, x: Var, index: Var, source: Var, accumulate: bool = False) -> Var:
    """X with values written, or added, at places that count through all elements."""
    shape = fixed_shape(x, "put")
    flat, places, values = (mb.reshape(x=each, shape=[-1]) for each in (x, index, source))
    places = _from_the_front(mb, places, fixed_size(flat, 0, "put"))
    mode = "add" if accumulate else "update"
    values = mb.cast(x=values, dtype=dtype_name(x)) if values.dtype != x.dtype else values
    return mb.reshape(x=mb.scatter(data=flat, indices=places, updates=values, axis=0, mode=mode), shape=shape)


_MODES = {"prod": "mul", "amax": "max", "amin": "min", "mean": "add"}


def index_reduce(mb: Builder, x: Var, dim: int, index: Var, source: Var, reduce: str, include_self: bool = True) -> Var:
    """X with rows of `source` reduced into those that the indices name along one axis."""
    import numpy as np

    axis, sizes = positive(dim, x.rank), fixed_shape(x, "index_reduce")
    index = _from_the_front(mb, index, sizes[axis])

    def put_rows(data: Var | np.ndarray, rows: Var | np.ndarray, mode: str) -> Var:
        return mb.scatter(data=data, indices=index, updates=rows, axis=axis, mode=mode)

    if not include_self:
        neutral = {"prod": 1.0, "amax": -3.4e38, "amin": 3.4e38, "mean": 0.0}[reduce]
        x = put_rows(x, np.full(fixed_shape(source, "index_reduce"), neutral, dtype=np.float32), "update")
    result = put_rows(x, source, _MODES[reduce])
    if reduce != "mean":
        return result
    ones = np.ones(fixed_shape(source, "index_reduce"), dtype=np.float32)
    counts: Var = np.ones(sizes, dtype=np.float32)
    counts = counts if include_self else put_rows(counts, 0 * ones, "update")
    return mb.real_div(x=result, y=mb.maximum(x=put_rows(counts, ones, "add"), y=1.0))


def _from_the_front(mb: Builder, index: Var, size: int) -> Var:
    index = mb.cast(x=index, dtype="int32")
    return mb.select(cond=mb.less(x=index, y=0), a=mb.add(x=index, y=size), b=index)


SOLVING = (
    *(Lowering(operator=name, lower=solve) for name in ("linalg_solve",)),
    Lowering(operator="_linalg_solve_ex", lower=solve_with_info),
    *(Lowering(operator=name, lower=slogdet) for name in ("slogdet", "linalg_slogdet")),
    Lowering(operator="_linalg_slogdet", lower=slogdet_with_factors),
    Lowering(operator="logdet", lower=logdet),
    Lowering(operator="bilinear", lower=bilinear),
    *(Lowering(operator=name, lower=pdist) for name in ("pdist", "_pdist_forward")),
    Lowering(operator="put", lower=put),
    Lowering(operator="index_reduce", lower=index_reduce),
)
