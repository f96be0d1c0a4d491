"""Operators that MIL lacks and that a few of its own make: running extremes, missing numbers, inverse hyperbolics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from builder.backends.coreml.lowerings.flexible_sizes import is_open, pairs_so_far
from builder.backends.coreml.lowerings.logarithms import log_of_sum
from builder.backends.coreml.lowerings.lowering import Builder, Constant, Lowering, Unused, Var
from builder.backends.coreml.lowerings.signs import isinf
from builder.backends.coreml.lowerings.variables import (
    all_axes,
    as_float,
    fixed_size,
    is_bool,
    is_float,
    numpy_dtype,
    positive,
    promoted,
    selected,
    slice_axis,
    zeros_like,
)

Axes = Sequence[int] | int | None


def running_extreme(better: str, mb: Builder, x: Var, dim: int) -> tuple[Var, Var]:
    """The greatest (or least) value up to each element along an axis and where it was, the last of equal ones.

    Given:   the extreme of the last k places up to i, and its place
    Result:  the same for 2 k places: of that and the one of i - k the better, the later one where they are equal
    """
    import numpy as np

    if x.rank == 0:
        return mb.identity(x=x), mb.const(val=np.int32(0))
    if is_bool(x):
        value, where = running_extreme(better, mb, mb.cast(x=x, dtype="int32"), dim)
        return mb.cast(x=value, dtype="bool"), where
    axis = positive(dim, x.rank)
    if not all(isinstance(size, int) for size in x.shape):
        return _extreme_of_pairs(better, mb, x, axis)
    sizes = [fixed_size(x, i, "a running extreme") for i in range(x.rank)]
    length, reach = sizes[axis], 1
    shape = [1] * x.rank
    shape[axis] = length
    place: Var = np.broadcast_to(np.arange(length, dtype=np.int32).reshape(shape), sizes).copy()
    x, place = mb.identity(x=x), mb.identity(x=place)
    while reach < length:
        parts = []
        for value in (x, place):
            whole = [slice_axis(mb, value, axis, *edges) for edges in ((0, reach), (reach, None), (0, length - reach))]
            parts.append(whole)
        (first, later, earlier), (first_place, later_place, earlier_place) = parts
        wins = getattr(mb, better)(x=earlier, y=later)
        if is_float(x):  # NaN stays, the last of several
            lost = mb.logical_and(x=mb.not_equal(x=earlier, y=earlier), y=mb.equal(x=later, y=later))
            wins = mb.logical_or(x=wins, y=lost)
        chosen, chosen_place = selected(mb, wins, earlier, later), selected(mb, wins, earlier_place, later_place)
        x = mb.concat(values=[first, chosen], axis=axis)
        place = mb.concat(values=[first_place, chosen_place], axis=axis)
        reach *= 2
    return x, place


def _extreme_of_pairs(better: str, mb: Builder, x: Var, axis: int) -> tuple[Var, Var]:
    """The same over an axis whose size the app chooses."""
    import numpy as np

    limits = np.finfo(np.float32) if is_float(x) else np.iinfo(np.int32)
    worst = numpy_dtype(x)(-np.inf if is_float(x) and better == "greater" else np.inf if is_float(x)
                           else limits.min if better == "greater" else limits.max)  # fmt: skip
    is_number = mb.equal(x=x, y=x) if is_float(x) else None
    spread, so_far, each = pairs_so_far(mb, x if is_number is None else selected(mb, is_number, x, worst), axis)
    known = selected(mb, so_far, spread, worst)
    reduced = mb.reduce_max if better == "greater" else mb.reduce_min
    value = reduced(x=known, axes=[axis + 1], keep_dims=True)
    found = mb.logical_and(x=mb.equal(x=known, y=value), y=so_far)
    if is_number is not None:
        lost = mb.logical_and(x=mb.logical_not(x=mb.expand_dims(x=is_number, axes=[axis])), y=so_far)
        any_lost = mb.reduce_max(x=mb.cast(x=lost, dtype="int32"), axes=[axis + 1], keep_dims=True)
        whole = mb.equal(x=any_lost, y=0)
        value = mb.select(cond=whole, a=value, b=numpy_dtype(x)(np.nan))
        found = mb.logical_or(x=lost, y=mb.logical_and(x=found, y=whole))
    place = mb.sub(x=mb.mul(x=mb.cast(x=found, dtype="int32"), y=mb.add(x=each, y=1)), y=1)
    return mb.squeeze(x=value, axes=[axis + 1]), mb.reduce_max(x=place, axes=[axis + 1], keep_dims=False)


def open_cumprod(mb: Builder, x: Var, dim: int, dtype: int | None = None) -> Var:
    """The products up to each element, along an axis whose size the app chooses."""
    del dtype
    axis = positive(dim, x.rank)
    spread, so_far, _ = pairs_so_far(mb, x, axis)
    return mb.reduce_prod(x=selected(mb, so_far, spread, numpy_dtype(x)(1)), axes=[axis + 1], keep_dims=False)


def _is_open_along(x: Var, dim: int) -> bool:
    return is_open([x.shape[dim]])


def broadcast_to(mb: Builder, x: Var, size: Sequence[int]) -> Var:
    """X repeated to a larger shape; -1 stands for x's own size."""
    own = [1] * (len(size) - x.rank) + [fixed_size(x, axis, "broadcast_to") for axis in range(x.rank)]
    wanted = [have if want == -1 else int(want) for want, have in zip(size, own, strict=True)]
    x = x if x.rank == len(own) else mb.reshape(x=x, shape=own)
    reps = [want // have for want, have in zip(wanted, own, strict=True)]
    return mb.tile(x=x, reps=reps) if any(rep != 1 for rep in reps) else mb.identity(x=x)


def asinh(mb: Builder, x: Var) -> Var:
    """`sign(x) log(|x| + sqrt(x² + 1))`, with the logarithm of the half for magnitudes whose square is too large."""
    x = as_float(x)
    size = mb.abs(x=x)
    small = mb.minimum(x=size, y=_SQUARED)
    below = mb.log(x=mb.add(x=small, y=mb.sqrt(x=mb.add(x=mb.mul(x=small, y=small), y=1.0))))
    above = mb.add(x=mb.log(x=mb.maximum(x=size, y=1.0)), y=math.log(2))
    square = mb.mul(x=small, y=small)
    series = mb.sub(x=1.0, y=mb.mul(x=square, y=mb.sub(x=1 / 6, y=mb.mul(x=square, y=3 / 40))))
    below = selected(mb, mb.less(x=size, y=_NEAR), mb.mul(x=small, y=series), below)
    return mb.mul(x=mb.sign(x=x), y=selected(mb, mb.greater(x=size, y=_SQUARED), above, below))


def acosh(mb: Builder, x: Var) -> Var:
    """`log(x + sqrt(x² - 1))`, NaN below 1."""
    x = as_float(x)
    small = mb.minimum(x=x, y=_SQUARED)
    root = mb.sqrt(x=mb.mul(x=mb.sub(x=small, y=1.0), y=mb.add(x=small, y=1.0)))
    below = mb.log(x=mb.add(x=small, y=root))
    found = selected(mb, mb.greater(x=x, y=_SQUARED), mb.add(x=mb.log(x=x), y=math.log(2)), below)
    return selected(mb, mb.less(x=x, y=1.0), math.nan, found)


_NEAR = 2.0**-4
"""Below it three terms of the series are exact, and the logarithm of 1 and a little is not."""
_SQUARED = 200.0
"""Half precision holds its square; beyond it 1 is nothing spread the square."""


def is_infinite(sign: float, mb: Builder, x: Var) -> Var:
    """Whether an element is infinity of one sign, which no integer is."""
    if not is_float(x):
        return mb.not_equal(x=x, y=x)
    return mb.logical_and(x=isinf(mb, x), y=mb.greater(x=mb.mul(x=x, y=sign), y=0.0))


def isclose(mb: Builder, x: Var, other: Var, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Var:
    """`|x - other| <= atol + rtol |other|`, or both equal, infinite too."""
    x, other = promoted(as_float(x), as_float(other))
    limit = mb.add(x=mb.mul(x=mb.abs(x=other), y=float(rtol)), y=float(atol))
    finite = mb.logical_not(x=isinf(mb, other))
    near = mb.logical_and(x=mb.less_equal(x=mb.abs(x=mb.sub(x=x, y=other)), y=limit), y=finite)
    close = mb.logical_or(x=near, y=mb.equal(x=x, y=other))
    if not equal_nan:
        return close
    return mb.logical_or(x=close, y=mb.logical_and(x=mb.not_equal(x=x, y=x), y=mb.not_equal(x=other, y=other)))


def without_missing(
    mean: bool, mb: Builder, x: Var, dim: Axes = None, keepdim: bool = False, dtype: Unused = None
) -> Var:
    """The sum, or the mean, of what is a number."""
    del dtype
    axes = all_axes(dim, x.rank)
    if not is_float(x):
        return mb.reduce_sum(x=x, axes=axes, keep_dims=bool(keepdim))
    known = mb.equal(x=x, y=x)
    total = mb.reduce_sum(x=selected(mb, known, x, zeros_like(mb, x)), axes=axes, keep_dims=bool(keepdim))
    if not mean:
        return total
    count = mb.reduce_sum(x=mb.cast(x=known, dtype="fp32"), axes=axes, keep_dims=bool(keepdim))
    return mb.real_div(x=total, y=count)


def known_extreme(operator: str, mb: Builder, x: Var, other: Var) -> Var:
    """The greater (or smaller) of both, of a NaN and a number the number."""
    x, other = promoted(x, other)
    best = getattr(mb, operator)(x=x, y=other)
    if not is_float(x):
        return best
    from_other = selected(mb, mb.not_equal(x=x, y=x), other, best)
    return selected(mb, mb.not_equal(x=other, y=other), x, from_other)


def logaddexp2(mb: Builder, x: Var, other: Var) -> Var:
    """`log2(2^x + 2^other)`."""
    x, other = (mb.mul(x=value, y=math.log(2)) for value in promoted(as_float(x), as_float(other)))
    return mb.mul(x=log_of_sum(mb, x, other), y=1 / math.log(2))


def float_power(mb: Builder, x: Var, exponent: Var) -> Var:
    """The power of floats, whatever the arguments are."""
    x, exponent = promoted(as_float(x), as_float(exponent))
    return mb.pow(x=x, y=exponent)


def diag(mb: Builder, x: Var, diagonal: int = 0) -> Var:
    """The diagonal of a matrix, or a matrix with a vector on its diagonal."""
    import numpy as np

    if x.rank == 1:
        length = fixed_size(x, 0, "diag")
        where = np.eye(length + abs(diagonal), k=diagonal, dtype=bool)
        rows = mb.expand_dims(x=_on_diagonal(mb, x, diagonal), axes=[1])
        wide = mb.tile(x=rows, reps=[1, length + abs(diagonal)])
        return mb.select(cond=where, a=wide, b=zeros_like(mb, wide))
    return _diagonal_of(mb, x, diagonal)


def _on_diagonal(mb: Builder, x: Var, diagonal: int) -> Var:
    """A vector with as many entries more as the diagonal is off, where its rows begin."""
    import numpy as np

    if diagonal == 0:
        return x
    more = np.zeros(abs(diagonal), dtype=numpy_dtype(x))
    return mb.concat(values=[x, more] if diagonal > 0 else [more, x], axis=0)


def _diagonal_of(mb: Builder, x: Var, diagonal: int) -> Var:
    import numpy as np

    rows, columns = (fixed_size(x, axis, "diag") for axis in range(2))
    places = np.diagonal(np.arange(rows * columns).reshape(rows, columns), diagonal).astype(np.int32)
    if not places.size:
        raise NotImplementedError("a diagonal without elements leaves nothing, which Core ML cannot return")
    return mb.gather(x=mb.reshape(x=x, shape=[-1]), indices=places, axis=0)


def block_diag(mb: Builder, tensors: Sequence[Var]) -> Var:
    """Matrices along the diagonal of one, zeros elsewhere."""
    import numpy as np

    blocks = [t if t.rank == 2 else mb.reshape(x=t, shape=[1, -1]) for t in promoted(*tensors)]
    sizes = [[fixed_size(block, axis, "block_diag") for axis in range(2)] for block in blocks]
    width, rows, left = sum(columns for _, columns in sizes), [], 0
    for block, (height, columns) in zip(blocks, sizes, strict=True):
        edges = [np.zeros((height, size), dtype=numpy_dtype(block)) for size in (left, width - left - columns)]
        parts = [edge for edge in edges[:1] if edge.size] + [block] + [edge for edge in edges[1:] if edge.size]
        rows.append(mb.concat(values=parts, axis=1) if len(parts) > 1 else block)
        left += columns
    return mb.concat(values=rows, axis=0) if len(rows) > 1 else mb.identity(x=rows[0])


def split_along(axis_of: Callable[[int], int], mb: Builder, x: Var, indices_or_sections: Constant) -> tuple[Var, ...]:
    """Parts along one axis, of equal size or between indices."""
    from builder.backends.coreml.lowerings.shape import tensor_split

    return tensor_split(mb, x, indices_or_sections, axis_of(x.rank))


_SPLITS: dict[str, Callable[[int], int]] = {
    "hsplit": lambda rank: 0 if rank == 1 else 1,
    "vsplit": lambda rank: 0,  # noqa: ARG005 - one signature for all three
    "dsplit": lambda rank: 2,  # noqa: ARG005
}

COMPOSED = (
    Lowering(operator="cummax", lower=partial(running_extreme, "greater")),
    Lowering(operator="cummin", lower=partial(running_extreme, "less")),
    Lowering(operator="cumprod", lower=open_cumprod, upstream_gap="sizes that the app chooses", applies=_is_open_along),
    Lowering(operator="broadcast_to", lower=broadcast_to),
    Lowering(operator="asinh", lower=asinh, upstream_gap="the operator of MIL that it names"),
    Lowering(operator="acosh", lower=acosh, upstream_gap="the operator of MIL that it names"),
    Lowering(operator="isposinf", lower=partial(is_infinite, 1.0)),
    Lowering(operator="isneginf", lower=partial(is_infinite, -1.0)),
    Lowering(operator="isclose", lower=isclose),
    Lowering(operator="nansum", lower=partial(without_missing, False)),
    Lowering(operator="nanmean", lower=partial(without_missing, True)),
    Lowering(operator="fmax", lower=partial(known_extreme, "maximum")),
    Lowering(operator="fmin", lower=partial(known_extreme, "minimum")),
    Lowering(operator="logaddexp2", lower=logaddexp2),
    *(Lowering(operator=f"float_power{name}", lower=float_power) for name in ("", ".tensor_tensor", ".tensor_scalar")),
    Lowering(operator="diag", lower=diag),
    Lowering(operator="block_diag", lower=block_diag),
    *(
        Lowering(operator=f"{name}{overload}", lower=partial(split_along, axis))
        for name, axis in _SPLITS.items()
        for overload in ("", ".int", ".array")
    ),
)
