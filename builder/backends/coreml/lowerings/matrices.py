"""Products and determinants of matrices."""

from __future__ import annotations

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, UpstreamBug, Var
from builder.backends.coreml.lowerings.variables import (
    fixed_size,
    is_constant,
    is_float,
    numpy_dtype,
    promoted,
    slice_axis,
    zeros_like,
)

_LARGEST = 4
"""The largest matrix whose determinant is written out: 4 x 4 takes 40 products, the next five times as many."""


def det(mb: Builder, x: Var) -> Var:
    """The determinant of small matrices (…, n, n) by Laplace's expansion along the first row."""
    size = fixed_size(x, -1, "det")
    if size > _LARGEST:
        raise NotImplementedError(
            f"the determinant of a {size} x {size} matrix is not converted: it takes a decomposition, which MIL lacks"
        )
    entries = [[_entry(mb, x, row, column) for column in range(size)] for row in range(size)]
    return _expand(mb, entries)


def det_with_factors(mb: Builder, x: Var) -> tuple[Var, ...]:
    """What exported programs call it; the factors beside the determinant serve training alone."""
    return (det(mb, x),)


def inverse(mb: Builder, x: Var) -> Var:
    """The inverse of small matrices (…, n, n) by Cramer's rule: cofactors, transposed, over the determinant.

    What is divided is `x / m` with m its largest magnitude, so that no product of n factors leaves half precision.
    """
    size = fixed_size(x, -1, "the inverse")
    if size > _LARGEST:
        raise NotImplementedError(
            f"the inverse of a {size} x {size} matrix is not converted: it takes a decomposition, which MIL lacks"
        )
    largest = mb.reduce_max(x=mb.abs(x=x), axes=[-2, -1], keep_dims=True)
    scaled = mb.real_div(x=x, y=largest)
    if size == 1:
        return mb.real_div(x=1.0, y=x)
    entries = [[_entry(mb, scaled, row, column) for column in range(size)] for row in range(size)]
    whole = mb.mul(x=mb.expand_dims(x=_expand(mb, entries), axes=[-1, -2]), y=largest)
    rows = []
    for column in range(size):  # of the transposed cofactors
        cofactors = [_cofactor(mb, entries, row, column) for row in range(size)]
        rows.append(mb.stack(values=cofactors, axis=-1))
    return mb.real_div(x=mb.stack(values=rows, axis=-2), y=whole)


def _cofactor(mb: Builder, entries: list[list[Var]], row: int, column: int) -> Var:
    rest = [[v for j, v in enumerate(line) if j != column] for i, line in enumerate(entries) if i != row]
    minor = _expand(mb, rest)
    return mb.mul(x=minor, y=-1.0) if (row + column) % 2 else mb.identity(x=minor)


def inverse_with_info(mb: Builder, x: Var) -> tuple[Var, ...]:
    """What exported programs call it; torch's note whether it worked is not made."""
    return (inverse(mb, x),)


def _entry(mb: Builder, x: Var, row: int, column: int) -> Var:
    picked = slice_axis(mb, slice_axis(mb, x, -2, row, row + 1), -1, column, column + 1)
    return mb.squeeze(x=picked, axes=[-2, -1])


def _expand(mb: Builder, entries: list[list[Var]]) -> Var:
    if len(entries) == 1:
        return entries[0][0]
    terms = []
    for column, factor in enumerate(entries[0]):
        rest = [[value for index, value in enumerate(row) if index != column] for row in entries[1:]]
        terms.append(mb.mul(x=factor, y=_expand(mb, rest)))
    total = terms[0]
    for column, term in enumerate(terms[1:], 1):
        total = mb.sub(x=total, y=term) if column % 2 else mb.add(x=total, y=term)
    return total


def addr(mb: Builder, x: Var, vec1: Var, vec2: Var, beta: float = 1, alpha: float = 1) -> Var:
    """`beta * x + alpha * vec1 vec2^T`."""
    x, vec1, vec2 = promoted(x, vec1, vec2)
    vec1, alpha = _reduced(mb, vec1, alpha)
    product = mb.mul(x=mb.expand_dims(x=vec1, axes=[1]), y=mb.expand_dims(x=vec2, axes=[0]))
    return _sum(mb, x, product, beta, alpha)


def addmv(mb: Builder, x: Var, mat: Var, vec: Var, beta: float = 1, alpha: float = 1) -> Var:
    """`beta * x + alpha * mat vec`."""
    x, mat, vec = promoted(x, mat, vec)
    vec, alpha = _reduced(mb, vec, alpha)
    product = mb.squeeze(x=mb.matmul(x=mat, y=mb.expand_dims(x=vec, axes=[1])), axes=[1])
    return _sum(mb, x, product, beta, alpha)


def addbmm(mb: Builder, x: Var, batch1: Var, batch2: Var, beta: float = 1, alpha: float = 1) -> Var:
    """`beta * x + alpha * (sum over the batch of batch1 batch2)`."""
    x, batch1, batch2 = promoted(x, batch1, batch2)
    batch1, alpha = _reduced(mb, batch1, alpha)
    product = mb.reduce_sum(x=mb.matmul(x=batch1, y=batch2), axes=[0], keep_dims=False)
    return _sum(mb, x, product, beta, alpha)


def addmm(mb: Builder, x: Var, mat1: Var, mat2: Var, beta: float = 1, alpha: float = 1) -> Var:
    """`beta * x + alpha * mat1 mat2`, of matrices or of batches of them."""
    x, mat1, mat2 = promoted(x, mat1, mat2)
    mat1, alpha = _reduced(mb, mat1, alpha)
    return _sum(mb, x, mb.matmul(x=mat1, y=mat2), beta, alpha)


def _reduced(mb: Builder, factor: Var, alpha: float) -> tuple[Var, float]:
    """A factor times an alpha below 1, before the product may leave half precision, and what is left of alpha."""
    return (mb.mul(x=factor, y=float(alpha)), 1) if is_float(factor) and abs(alpha) < 1 else (factor, alpha)


def _sum(mb: Builder, x: Var, product: Var, beta: float, alpha: float) -> Var:
    """`beta * x + alpha * product`; with a beta of 0 nothing of x counts, infinities and NaN included."""
    if alpha != 1:
        product = mb.mul(x=product, y=numpy_dtype(product)(alpha))
    if beta == 0:
        sizes = [fixed_size(x, axis, "a sum with beta of 0") for axis in range(x.rank)]
        if sizes == list(product.shape)[product.rank - x.rank :]:
            return product if alpha != 1 else mb.identity(x=product)
        beta_x = zeros_like(mb, x)
    else:
        beta_x = x if beta == 1 else mb.mul(x=x, y=numpy_dtype(x)(beta))
    return mb.add(x=beta_x, y=product)


def matmul(mb: Builder, x: Var, other: Var) -> Var:
    """A vector by a stack of matrices, or a stack by a vector: the vector as one row, or one column, of each."""
    x, other = promoted(x, other)
    if x.rank == other.rank == 1:
        return mb.reduce_sum(x=mb.mul(x=x, y=other), axes=[0], keep_dims=False)
    if other.rank == 1:
        return mb.squeeze(x=mb.matmul(x=x, y=mb.expand_dims(x=other, axes=[1])), axes=[-1])
    return mb.squeeze(x=mb.matmul(x=mb.expand_dims(x=x, axes=[0]), y=other), axes=[-2])


def _is_computed(x: Var) -> bool:
    return not is_constant(x)


def _has_a_vector(x: Var, other: Var) -> bool:
    return 1 in (x.rank, other.rank)


def _is_weighted(beta: float = 1, alpha: float = 1) -> bool:
    return (beta, alpha) != (1, 1)


def inner(mb: Builder, x: Var, other: Var) -> Var:
    """Products along the last axis of both; with a number each element times it."""
    x, other = promoted(x, other)
    if 0 in (x.rank, other.rank) or x.shape[-1] != other.shape[-1]:  # `reshape(())` leaves a number one axis
        return mb.mul(x=x, y=other)
    if x.rank == 1 and other.rank == 1:
        return mb.reduce_sum(x=mb.mul(x=x, y=other), axes=[0], keep_dims=False)
    if other.rank == 1:
        return mb.reduce_sum(x=mb.mul(x=x, y=other), axes=[-1], keep_dims=False)
    if x.rank == 1:
        return mb.reduce_sum(x=mb.mul(x=other, y=x), axes=[-1], keep_dims=False)
    sizes = [fixed_size(x, axis, "inner") for axis in range(x.rank - 1)]
    others = [fixed_size(other, axis, "inner") for axis in range(other.rank - 1)]
    width = fixed_size(x, -1, "inner")
    product = mb.matmul(
        x=mb.reshape(x=x, shape=[-1, width]), y=mb.reshape(x=other, shape=[-1, width]), transpose_y=True
    )
    return mb.reshape(x=product, shape=[*sizes, *others])


def cross(mb: Builder, x: Var, other: Var, dim: int | None = None) -> Var:
    """The cross product of vectors along an axis, the first one of three elements unless one is named."""
    x, other = promoted(x, other)
    axis = next(i for i, size in enumerate(x.shape) if size == 3) if dim is None else dim

    def turned(value: Var, *order: int) -> Var:
        return mb.gather(x=value, indices=list(order), axis=axis)

    first = mb.mul(x=turned(x, 1, 2, 0), y=turned(other, 2, 0, 1))
    return mb.sub(x=first, y=mb.mul(x=turned(x, 2, 0, 1), y=turned(other, 1, 2, 0)))


def linalg_cross(mb: Builder, x: Var, other: Var, dim: int = -1) -> Var:
    """The cross product along the last axis unless one is named."""
    return cross(mb, x, other, dim)


def outer(mb: Builder, x: Var, y: Var) -> Var:
    """Each element of a vector (N) times each of another (M), in their common dtype: (N, M)."""
    x, y = promoted(x, y)
    return mb.mul(x=mb.expand_dims(x=x, axes=[1]), y=mb.expand_dims(x=y, axes=[0]))


MATRICES = (
    *(Lowering(operator=name, lower=det) for name in ("det", "linalg_det")),
    Lowering(operator="_linalg_det", lower=det_with_factors),
    *(
        Lowering(operator=name, lower=inverse, upstream_gap="matrices that the input decides", applies=_is_computed)
        for name in ("inverse", "linalg_inv")
    ),
    Lowering(operator="linalg_inv_ex", lower=inverse_with_info),
    *(
        Lowering(operator=name, lower=addmm, upstream_gap="`alpha` and `beta` that are integers", applies=_is_weighted)
        for name in ("addmm", "baddbmm")
    ),
    Lowering(
        operator="matmul",
        lower=matmul,
        wrong=UpstreamBug(issue=None, summary="makes a malformed program of a vector and a stack of matrices"),
        applies=_has_a_vector,
    ),
    Lowering(operator="addr", lower=addr),
    Lowering(operator="addmv", lower=addmv),
    Lowering(operator="addbmm", lower=addbmm),
    Lowering(operator="inner", lower=inner),
    Lowering(operator="linalg_cross", lower=linalg_cross),
    Lowering(
        operator="cross",
        lower=cross,
        wrong=UpstreamBug(issue=None, summary="takes the wrong axis where none is named"),
        applies=lambda dim=None: dim is None,
    ),
    *(
        Lowering(
            operator=name, lower=outer, upstream_gap="vectors of unlike dtypes", applies=lambda x, y: x.dtype != y.dtype
        )
        for name in ("outer", "ger")
    ),
)
