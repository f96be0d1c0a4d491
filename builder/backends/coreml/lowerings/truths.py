"""Operators on truths that MIL has for numbers alone, and on integers that it has for floats alone."""

from __future__ import annotations

import math
from functools import partial

from builder.backends.coreml.lowerings import complex as complex_numbers
from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import (
    as_float,
    is_bool,
    is_complex,
    is_float,
    is_integer,
    promoted,
    selected,
)


def _numbers(mb: Builder, *values: Var) -> list[Var]:
    """The values in their common dtype, truths as 0 and 1."""
    return promoted(*(mb.cast(x=value, dtype="int32") if is_bool(value) else value for value in values))


def compared(operator: str, mb: Builder, x: Var, other: Var) -> Var:
    """Of truths false is the smaller one."""
    x, other = _numbers(mb, x, other)
    return getattr(mb, operator)(x=x, y=other)


def extreme(operator: str, mb: Builder, x: Var, other: Var) -> Var:
    """The larger of two truths is whether either holds, the smaller whether both do."""
    if is_bool(x) and is_bool(other):
        return getattr(mb, "logical_or" if operator == "maximum" else "logical_and")(x=x, y=other)
    return compared(operator, mb, x, other)


def product(mb: Builder, x: Var, other: Var) -> Var:
    """Of complex numbers; of truths whether both hold."""
    if is_complex(x) or is_complex(other):
        return complex_numbers.mul(mb, x, other)
    return mb.logical_and(x=x, y=other)


def _one_is_true(x: Var, other: Var) -> bool:
    return is_bool(x) or is_bool(other)


def _is_complex_or_true(x: Var, other: Var) -> bool:
    return is_complex(x) or is_complex(other) or (is_bool(x) and is_bool(other))


def whole(mb: Builder, x: Var) -> Var:
    """An integer is whole already."""
    return mb.identity(x=x)


def rectified(most: int | None, mb: Builder, x: Var) -> Var:
    """`max(x, 0)` of integers, at most `most` where there is a limit."""
    x = mb.maximum(x=x, y=0)
    return x if most is None else mb.minimum(x=x, y=most)


def _of_floats(operator: str, mb: Builder, x: Var) -> Var:
    return getattr(mb, operator)(x=as_float(x))


def angle(mb: Builder, x: Var) -> Var:
    """The angle of complex numbers in (-π, π]; of negative numbers π, of all others 0."""
    from builder.backends.coreml.lowerings.signs import atan2

    if is_complex(x):
        return atan2(mb, mb.complex_imag(data=x), mb.complex_real(data=x))
    x = as_float(x)
    return selected(mb, mb.less(x=x, y=0.0), math.pi, mb.mul(x=x, y=0.0))


def _is_integer(x: Var) -> bool:
    return is_integer(x)


def _is_no_float(x: Var) -> bool:
    return not is_float(x)


_COMPARED = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}

TRUTHS = (
    *(
        Lowering(operator=name, lower=partial(compared, mil), upstream_gap="truths", applies=_one_is_true)
        for name, mil in _COMPARED.items()
    ),
    *(
        Lowering(operator=name, lower=partial(extreme, name), upstream_gap="truths", applies=_one_is_true)
        for name in ("minimum", "maximum")
    ),
    Lowering(operator="mul", lower=product, upstream_gap="complex numbers and truths", applies=_is_complex_or_true),
    *(Lowering(operator=name, lower=whole, upstream_gap="integers", applies=_is_integer) for name in ("ceil", "floor")),
    Lowering(operator="relu", lower=partial(rectified, None), upstream_gap="integers", applies=_is_integer),
    Lowering(operator="relu6", lower=partial(rectified, 6), upstream_gap="integers", applies=_is_integer),
    *(
        Lowering(operator=name, lower=partial(_of_floats, name), upstream_gap="integers", applies=_is_no_float)
        for name in ("cosh", "sinh", "atanh")
    ),
    Lowering(operator="angle", lower=angle),
)
