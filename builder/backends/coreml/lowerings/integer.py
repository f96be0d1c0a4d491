"""Bitwise operators. MIL has none: integers are taken apart into their bits, which are 0 or 1, and put together again.

Every division is of a number that is not negative: how Core ML rounds others is told nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import selected

_BITS = 31
"""Of an int32 without its sign."""
_HALF_RANGE = 2**30
"""Half of 2^31, which int32 cannot hold."""


def _is_bool(x: Var) -> bool:
    from coremltools.converters.mil.mil import types

    return bool(types.is_bool(x.dtype))


def _bitwise(operator: str, combine: Callable[[Builder, Var, Var], Var], mb: Builder, x: Var, y: Var) -> Var:
    """Given: `x & y`, both boolean or both integers (broadcast).

    Result: for booleans the logical operator; for integers the bits of both, combined, times their powers of two.
    """
    if _is_bool(x) and _is_bool(y):
        return getattr(mb, f"logical_{operator}")(x=x, y=y)
    x, y = (mb.cast(x=v, dtype="int32") for v in (x, y))
    x, y = mb.add(x=x, y=mb.mul(x=y, y=0)), mb.add(x=y, y=mb.mul(x=x, y=0))
    shape = mb.shape(x=x)
    (x_bits, x_sign), (y_bits, y_sign) = (_bits(mb, mb.reshape(x=v, shape=(-1, 1))) for v in (x, y))
    bits, sign = combine(mb, x_bits, y_bits), combine(mb, x_sign, y_sign)
    together = _from_bits(mb, bits, sign)
    return mb.reshape(x=together, shape=shape)


def _bits(mb: Builder, x: Var) -> tuple[Var, Var]:
    """(N, 1) to its bits (N, 31), the lowest first, and its sign (N, 1), each 0 or 1."""
    import numpy as np

    sign = mb.cast(x=mb.less(x=x, y=0), dtype="int32")
    half = mb.mul(x=sign, y=_HALF_RANGE)
    positive = mb.add(x=mb.add(x=x, y=half), y=half)  # two's complement without its highest bit
    powers = (2 ** np.arange(_BITS, dtype=np.int64)).astype(np.int32).reshape(1, _BITS)
    return mb.mod(x=mb.floor_div(x=positive, y=powers), y=2), sign


def _from_bits(mb: Builder, bits: Var, sign: Var) -> Var:
    import numpy as np

    powers = (2 ** np.arange(_BITS, dtype=np.int64)).astype(np.int32).reshape(1, _BITS)
    positive = mb.reduce_sum(x=mb.mul(x=bits, y=powers), axes=[1], keep_dims=True)
    half = mb.mul(x=sign, y=_HALF_RANGE)
    return mb.sub(x=mb.sub(x=positive, y=half), y=half)


def _and(mb: Builder, x: Var, y: Var) -> Var:
    return mb.mul(x=x, y=y)


def _or(mb: Builder, x: Var, y: Var) -> Var:
    return mb.maximum(x=x, y=y)


def _xor(mb: Builder, x: Var, y: Var) -> Var:
    return mb.abs(x=mb.sub(x=x, y=y))


def shift_left(mb: Builder, x: Var, y: Var) -> Var:
    """`x << y` for 0 <= y < 32: x times 2^y, which wraps as int32 does; 0 for every other y."""
    y = mb.cast(x=y, dtype="int32")
    known = mb.logical_and(x=mb.greater_equal(x=y, y=0), y=mb.less(x=y, y=_BITS + 1))
    shifted = mb.mul(x=mb.cast(x=x, dtype="int32"), y=_power_of_two(mb, _within(mb, y, _BITS)))
    return selected(mb, known, shifted, mb.mul(x=shifted, y=0))


def shift_right(mb: Builder, x: Var, y: Var) -> Var:
    """`x >> y` with the sign: x // 2^y, for a negative x as ~(~x // 2^y); by 31 for a y below 0 or above 31."""
    y = mb.cast(x=y, dtype="int32")
    steps = mb.select(cond=mb.less(x=y, y=0), a=_BITS, b=_within(mb, y, _BITS))
    x = mb.cast(x=x, dtype="int32")
    sign = mb.cast(x=mb.less(x=x, y=0), dtype="int32")
    positive = mb.abs(x=mb.add(x=x, y=sign))
    most = mb.select(cond=mb.greater(x=steps, y=_BITS - 1), a=_BITS - 1, b=steps)  # 2^31 is not an int32
    shifted = mb.floor_div(x=positive, y=_power_of_two(mb, most))
    shifted = mb.floor_div(x=shifted, y=mb.add(x=mb.sub(x=steps, y=most), y=1))
    return selected(mb, mb.greater(x=sign, y=0), mb.sub(x=-1, y=shifted), shifted)


def _within(mb: Builder, y: Var, most: int) -> Var:
    return mb.minimum(x=mb.maximum(x=y, y=0), y=most)


def _power_of_two(mb: Builder, exponent: Var) -> Var:
    import numpy as np

    table = (np.int64(1) << np.arange(32)).astype(np.uint32).view(np.int32)
    return mb.gather(x=table, indices=mb.cast(x=exponent, dtype="int32"), axis=0)


def _any_integer(x: Var, y: Var) -> bool:
    return not (_is_bool(x) and _is_bool(y))


_COMBINE = {"and": _and, "or": _or, "xor": _xor}


INTEGER = (
    *(
        Lowering(operator=name, lower=partial(_bitwise, "and", _and), upstream_gap="integers", applies=_any_integer)
        for name in ("and", "bitwise_and")
    ),
    Lowering(operator="__and__", lower=partial(_bitwise, "and", _and)),
    *(
        Lowering(operator=name, lower=partial(_bitwise, operator, _COMBINE[operator]))
        for operator in ("or", "xor")
        for name in (operator, f"bitwise_{operator}", f"__{operator}__")
    ),
    *(Lowering(operator=name, lower=shift_left) for name in ("bitwise_left_shift", "__lshift__", "lshift")),
    *(Lowering(operator=name, lower=shift_right) for name in ("bitwise_right_shift", "__rshift__", "rshift")),
)
