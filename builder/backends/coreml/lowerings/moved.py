"""Operators that only move elements: of complex numbers both parts, of booleans as integers; MIL's own take neither."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import complex_of, is_bool, is_complex, positive, slice_axis


def _both(mb: Builder, x: Var, move: Callable[[Var], Var]) -> Var:
    """The same of the real and of the imaginary part."""
    return complex_of(mb, move(mb.complex_real(data=x)), move(mb.complex_imag(data=x)))


def permute(mb: Builder, x: Var, dims: Sequence[int]) -> Var:
    """Both parts with their axes in another order."""
    return _both(mb, x, lambda part: mb.transpose(x=part, perm=list(dims)))


def transpose(mb: Builder, x: Var, dim0: int, dim1: int) -> Var:
    """Both parts with two axes exchanged."""
    order = list(range(x.rank))
    first, second = positive(dim0, x.rank), positive(dim1, x.rank)
    order[first], order[second] = second, first
    return permute(mb, x, order)


def turned(mb: Builder, x: Var) -> Var:
    """Both parts with the axes in reverse order."""
    return permute(mb, x, list(reversed(range(x.rank))))


def reshape(mb: Builder, x: Var, shape: Sequence[int]) -> Var:
    """Both parts in another shape."""
    return _both(mb, x, lambda part: mb.reshape(x=part, shape=list(shape)))


def slice_(
    mb: Builder, x: Var, dim: int = 0, start: Var | int | None = None, end: Var | int | None = None, step: int = 1
) -> Var:
    """`x[start:end:step]` of both parts along an axis."""
    start = None if isinstance(start, int) and start == 0 else start
    end = None if isinstance(end, int) and end >= 2**31 - 1 else end
    return _both(mb, x, lambda part: slice_axis(mb, part, dim, start, end, step))


def select(mb: Builder, x: Var, dim: int, index: int) -> Var:
    """`x[index]` of both parts along an axis."""
    axis, end = positive(dim, x.rank), index + 1 or None
    return _both(mb, x, lambda part: mb.squeeze(x=slice_axis(mb, part, axis, index, end), axes=[axis]))


def index_select(mb: Builder, x: Var, dim: int, index: Var) -> Var:
    """Booleans at these places of an axis."""
    picked = mb.gather(x=mb.cast(x=x, dtype="int32"), indices=index, axis=positive(dim, x.rank))
    return mb.cast(x=picked, dtype="bool")


def gather(mb: Builder, x: Var, dim: int, index: Var, sparse_grad: bool = False) -> Var:
    """Booleans, each at its own place of an axis."""
    del sparse_grad
    whole = mb.cast(x=x, dtype="int32")
    return mb.cast(x=mb.gather_along_axis(x=whole, indices=index, axis=positive(dim, x.rank)), dtype="bool")


def _is_complex(x: Var) -> bool:
    return is_complex(x)


def _is_bool(x: Var) -> bool:
    return is_bool(x)


MOVED = (
    *(
        Lowering(operator=name, lower=lower, upstream_gap="complex numbers", applies=_is_complex)
        for names, lower in (
            (("permute",), permute),
            (("transpose", "transpose.int"), transpose),
            (("t", "numpy_t"), turned),
            (("reshape", "view", "_unsafe_view"), reshape),
            (("slice",), slice_),
            (("select", "select.int"), select),
        )
        for name in names
    ),
    Lowering(operator="index_select", lower=index_select, upstream_gap="booleans", applies=_is_bool),
    Lowering(operator="gather", lower=gather, upstream_gap="booleans", applies=_is_bool),
)
