"""Variances and what is divided by their roots, computed so that no square leaves half precision.

With `d = x - mean` and `m = max |d|`, the mean of d² is `m² mean((d / m)²)`, whose squares are at most 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, UpstreamBug, Var
from builder.backends.coreml.lowerings.variables import all_axes, as_float, fixed_size, promoted

Axes = Sequence[int] | int | None

_LEAST = 2.0**-14
"""The least normal number of half precision: what a spread of zero is divided by."""


def spread(mb: Builder, x: Var, axes: Sequence[int], least: float = _LEAST) -> tuple[Var, Var, Var]:
    """Distances from the mean over m, m itself (at least `least`), and the mean; with the axes kept."""
    mean = mb.reduce_mean(x=x, axes=list(axes), keep_dims=True)
    distance = mb.sub(x=x, y=mean)
    largest = mb.reduce_max(x=mb.abs(x=distance), axes=list(axes), keep_dims=True)
    distance, largest = promoted(distance, mb.maximum(x=largest, y=promoted(largest, least)[1]))
    return mb.real_div(x=distance, y=largest), largest, mean


def _moments(mb: Builder, x: Var, dim: Axes, correction: float, *, root: bool, keepdim: bool) -> tuple[Var, Var]:
    """The variance, or its root, and the mean. `correction` is taken off the number of elements."""
    x = as_float(x)
    axes = all_axes(dim, x.rank)
    if not axes:  # of one number
        variance = mb.mul(x=x, y=float("nan") if correction else 0.0)
        return variance, mb.identity(x=x)
    share, largest, mean = spread(mb, x, axes)
    squares = mb.reduce_mean(x=mb.mul(x=share, y=share), axes=axes, keep_dims=True)
    if correction:
        squares = mb.mul(x=squares, y=_factor(mb, x, axes, correction))
    result = mb.mul(x=mb.sqrt(x=squares) if root else mb.mul(x=squares, y=largest), y=largest)
    if keepdim:
        return result, mean
    return mb.squeeze(x=result, axes=axes), mb.squeeze(x=mean, axes=axes)


def _factor(mb: Builder, x: Var, axes: Sequence[int], correction: float) -> Var | float:
    """`N / (N - correction)` as `1 + correction / (N - correction)`, which half precision holds for every N."""
    sizes = [x.shape[axis] for axis in axes]
    if all(isinstance(size, int) for size in sizes):
        count = 1
        for size in sizes:
            count *= size
        return count / (count - correction) if count > correction else float("inf")
    shape = mb.gather(x=mb.shape(x=x), indices=list(axes), axis=0)
    count = mb.cast(x=mb.reduce_prod(x=shape, axes=[0], keep_dims=False), dtype="fp32")
    return mb.add(x=mb.real_div(x=float(correction), y=mb.sub(x=count, y=float(correction))), y=1.0)


def _settings(
    dim: Axes | bool, correction: float | bool | None, keepdim: bool, unbiased: bool | None
) -> tuple[Axes, float, bool]:
    """Axes, correction and keepdim of every form: with `unbiased` in the place of `correction`, or alone."""
    if isinstance(dim, bool):
        return None, float(dim), False
    given = unbiased if correction is None else correction
    return dim, 1.0 if given is None else float(given), bool(keepdim)


def _of_both(
    root: bool,
    mb: Builder,
    x: Var,
    dim: Axes | bool = None,
    correction: float | bool | None = None,
    keepdim: bool = False,
    unbiased: bool | None = None,
) -> tuple[Var, Var]:
    """`var_mean(x, dim, correction, keepdim)` or `std_mean`, and the older forms with `unbiased`."""
    axes, taken, kept = _settings(dim, correction, keepdim, unbiased)
    return _moments(mb, x, axes, taken, root=root, keepdim=kept)


def _of_one(
    root: bool,
    mb: Builder,
    x: Var,
    dim: Axes | bool = None,
    correction: float | bool | None = None,
    keepdim: bool = False,
    unbiased: bool | None = None,
) -> Var:
    return _of_both(root, mb, x, dim, correction, keepdim, unbiased)[0]


def spread_and_root(mb: Builder, x: Var, axes: Sequence[int], eps: float) -> tuple[Var, Var, Var, Var]:
    """Distances d from the mean over m, m itself, the mean, and `sqrt(variance + eps) / m`; with the axes kept.

    With both over m, the root is `sqrt(mean((d / m)²) + eps / m²)`.
    """
    least = max(float(eps), 0.0) ** 0.5
    share, largest, mean = spread(mb, x, axes, max(least, _LEAST))
    squares = mb.reduce_mean(x=mb.mul(x=share, y=share), axes=list(axes), keep_dims=True)
    small = mb.real_div(x=promoted(largest, least)[1], y=largest)
    return share, largest, mean, mb.sqrt(x=mb.add(x=squares, y=mb.mul(x=small, y=small)))


def normalized_by_spread(mb: Builder, x: Var, axes: Sequence[int], eps: float) -> Var:
    """`(x - mean) / sqrt(variance + eps)`."""
    share, _, _, root = spread_and_root(mb, x, axes, eps)
    return mb.real_div(x=share, y=root)


def cov(mb: Builder, x: Var, correction: int = 1, fweights: Var | None = None, aweights: Var | None = None) -> Var:
    """Covariances of the rows of (variables, observations): `D Dᵀ / (n - correction)` of distances from the means."""
    if fweights is not None or aweights is not None:
        raise NotImplementedError("cov with weights of observations is not converted")
    x = as_float(x)
    rows = x if x.rank == 2 else mb.reshape(x=x, shape=[1, -1])
    share, largest, _ = spread(mb, rows, [1])
    count = fixed_size(rows, 1, "cov") - correction
    products = mb.mul(x=mb.matmul(x=share, y=share, transpose_y=True), y=1 / count if count > 0 else float("inf"))
    result = mb.mul(x=mb.mul(x=products, y=largest), y=mb.transpose(x=largest, perm=[1, 0]))
    return result if x.rank == 2 else mb.squeeze(x=result, axes=[0, 1])


def corrcoef(mb: Builder, x: Var) -> Var:
    """Covariances over the roots of both variances, from -1 to 1."""
    x = as_float(x)
    rows = x if x.rank == 2 else mb.reshape(x=x, shape=[1, -1])
    share, _, _ = spread(mb, rows, [1])
    root = mb.sqrt(x=mb.reduce_sum(x=mb.mul(x=share, y=share), axes=[1], keep_dims=True))
    unit = mb.real_div(x=share, y=root)
    result = mb.clip(x=mb.matmul(x=unit, y=unit, transpose_y=True), alpha=-1.0, beta=1.0)
    return result if x.rank == 2 else mb.squeeze(x=result, axes=[0, 1])


_VARIANCE = UpstreamBug(
    issue=2718, summary="takes a correction above 1 as 1, and squares distances that half precision does not hold"
)

STATISTICS = (
    Lowering(operator="cov", lower=cov),
    Lowering(operator="corrcoef", lower=corrcoef),
    *(
        Lowering(operator=f"{name}_mean{overload}", lower=partial(_of_both, name == "std"))
        for name in ("var", "std")
        for overload in ("", ".dim", ".correction")
    ),
    *(
        Lowering(operator=f"{name}{overload}", lower=partial(_of_one, name == "std"), wrong=_VARIANCE)
        for name in ("var", "std")
        for overload in ("", ".dim", ".correction")
    ),
    *(
        Lowering(operator=f"{name}_correction", lower=partial(_of_one, name == "std"), wrong=_VARIANCE)
        for name in ("var", "std")
    ),
)
