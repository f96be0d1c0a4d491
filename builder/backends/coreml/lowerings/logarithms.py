"""Logarithms of sums of exponentials, from the largest value, so that nothing overflows and nothing vanishes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from builder.backends.coreml.lowerings.flexible_sizes import is_open, pairs_so_far
from builder.backends.coreml.lowerings.lowering import Builder, Lowering, UpstreamBug, Var
from builder.backends.coreml.lowerings.variables import (
    all_axes,
    as_float,
    fixed_size,
    is_float,
    positive,
    selected,
    slice_axis,
)

_MANY = 2**15
"""Of ones, half precision adds up that many and leaves room."""


def log_softmax(mb: Builder, x: Var, dim: int, dtype: int | bool | None = None) -> Var:
    """`x - max - log(sum(exp(x - max)))` along an axis. The sum is at least 1, and a part of it for large vocabularies.

    With `c = 2^-k` such that c times the number of elements fits: `log(sum(c exp(x - max))) - log c`.
    """
    del dtype  # the result is of floats, which have the precision of the program
    x = as_float(x)
    if x.rank == 0:
        return mb.sub(x=x, y=x)
    lower = mb.sub(x=x, y=mb.reduce_max(x=x, axes=[dim], keep_dims=True))
    size, exponentials = x.shape[dim], mb.exp(x=lower)
    halvings = max(0, math.ceil(math.log2(size / _MANY))) if isinstance(size, int) else 0
    if halvings:
        exponentials = mb.mul(x=exponentials, y=2.0**-halvings)
    total = mb.log(x=mb.reduce_sum(x=exponentials, axes=[dim], keep_dims=True))
    if halvings:
        total = mb.add(x=total, y=halvings * math.log(2))
    return mb.sub(x=lower, y=total)


def logarithm(base: float, mb: Builder, x: Var) -> Var:
    """The logarithm, minus infinity of zero: MIL adds 1e-45 otherwise."""
    natural = mb.log(x=as_float(x), epsilon=0.0)
    return natural if base == math.e else mb.mul(x=natural, y=1 / math.log(base))


def log1p(mb: Builder, x: Var) -> Var:
    """`log(1 + x)`, exact to the last place for small x too: with `u = 1 + x`, `log(u) x / (u - 1)`.

    W. Kahan's formula, as of D. Goldberg, What every computer scientist should know about floating-point arithmetic.
    """
    x = as_float(x)
    sum_ = mb.add(x=x, y=1.0)
    logarithm_, distance = mb.log(x=sum_, epsilon=0.0), mb.sub(x=sum_, y=1.0)
    is_lost = mb.equal(x=distance, y=0.0)
    share = mb.real_div(x=x, y=selected(mb, is_lost, 1.0, distance))
    small = selected(mb, is_lost, x, mb.mul(x=logarithm_, y=share))
    return selected(mb, mb.greater(x=x, y=1.0), logarithm_, small)


def softmax(mb: Builder, x: Var, dim: int, dtype: int | bool | None = None) -> Var:
    """Of integers, as floats."""
    del dtype
    return mb.softmax(x=as_float(x), axis=dim)


def log_of_sum(mb: Builder, x: Var, y: Var) -> Var:
    """`log(e^x + e^y)`: the larger one and `log(1 + e^-|x - y|)`; of equal ones, infinite ones too, `x + log 2`."""
    distance = mb.mul(x=mb.abs(x=mb.sub(x=x, y=y)), y=-1.0)
    unequal = selected(mb, mb.not_equal(x=x, y=y), distance, 0.0)
    return mb.add(x=mb.maximum(x=x, y=y), y=mb.softplus(x=unequal))


def logcumsumexp(mb: Builder, x: Var, dim: int) -> Var:
    """The logarithm of the sum of exponentials up to each element, in log2(N) steps of twice the reach.

    Given:   y_i = log(sum of e^x_j for the last k places j up to i)
    Result:  the same for 2 k places: log(e^y_i + e^y_(i - k)), where there is a place i - k
    """
    x = as_float(x)
    if x.rank == 0:
        return mb.identity(x=x)
    axis = positive(dim, x.rank)
    if is_open([x.shape[axis]]):
        spread, so_far, _ = pairs_so_far(mb, x, axis)
        return mb.reduce_log_sum_exp(x=selected(mb, so_far, spread, -math.inf), axes=[axis + 1], keep_dims=False)
    length, reach = fixed_size(x, axis, "logcumsumexp"), 1
    while reach < length:
        first, rest = slice_axis(mb, x, axis, 0, reach), slice_axis(mb, x, axis, reach, None)
        further = log_of_sum(mb, rest, slice_axis(mb, x, axis, 0, length - reach))
        x, reach = mb.concat(values=[first, further], axis=axis), 2 * reach
    return mb.identity(x=x) if length == 1 else x


def logsumexp(mb: Builder, x: Var, dim: Sequence[int] | int | None = None, keepdim: bool = False) -> Var:
    """The logarithm of the sum of exponentials of integers, which is no integer."""
    return mb.reduce_log_sum_exp(x=as_float(x), axes=all_axes(dim, x.rank), keep_dims=bool(keepdim))


_SATURATES = UpstreamBug(
    issue=2728, summary="takes the logarithm of softmax, which is 0 where one value is much larger"
)

LOGARITHMS = (
    *(
        Lowering(operator=name, lower=log_softmax, wrong=_SATURATES)
        for name in ("log_softmax", "_log_softmax", "log_softmax.int", "special_log_softmax")
    ),
    *(
        Lowering(
            operator=name,
            lower=partial(logarithm, base),
            wrong=UpstreamBug(issue=None, summary="adds an epsilon, so that the logarithm of zero is -103"),
        )
        for name, base in (("log", math.e), ("log2", 2.0), ("log10", 10.0))
    ),
    Lowering(
        operator="log1p",
        lower=log1p,
        wrong=UpstreamBug(issue=None, summary="adds 1 first, which rounds small numbers off"),
    ),
    *(
        Lowering(operator=name, lower=softmax, upstream_gap="integers", applies=lambda x: not is_float(x))
        for name in ("softmax", "_softmax")
    ),
    Lowering(
        operator="logsumexp",
        lower=logsumexp,
        wrong=UpstreamBug(issue=None, summary="gives integers for integers"),
        applies=lambda x: not is_float(x),
    ),
    Lowering(
        operator="logcumsumexp",
        lower=logcumsumexp,
        wrong=UpstreamBug(issue=2729, summary="adds up exponentials as they are, which overflow"),
    ),
)
