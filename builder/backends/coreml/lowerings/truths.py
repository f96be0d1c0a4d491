"""Operators on truths that MIL has for numbers alone, and on integers that it has for floats alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from builder.backends.coreml.lowerings import complex as complex_numbers
from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import (
    all_axes,
    as_float,
    is_bool,
    is_complex,
    is_float,
    is_integer,
    promoted,
    selected,
)

Axes = Sequence[int] | int | None


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


def extreme_along(name: str, mb: Builder, x: Var, dim: Axes = (), keepdim: bool = False) -> Var:
    """`amax` and `amin` of truths."""
    numbers = mb.cast(x=x, dtype="int32")
    axes = all_axes(dim, x.rank)
    found = getattr(mb, f"reduce_{name}")(x=numbers, axes=axes, keep_dims=bool(keepdim)) if axes else numbers
    return mb.cast(x=found, dtype="bool")


def extreme_with_place(
    name: str, mb: Builder, x: Var, dim: int | None = None, keepdim: bool = False
) -> Var | tuple[Var, Var]:
    """`max` and `min` of truths: of all, or along an axis with the place."""
    if dim is None:
        return extreme_along(name, mb, x)
    numbers = mb.cast(x=x, dtype="int32")
    place = getattr(mb, f"reduce_arg{name}")(x=numbers, axis=dim, keep_dims=bool(keepdim))
    return extreme_along(name, mb, x, dim, keepdim), place


def _is_of_truths(x: Var) -> bool:
    return is_bool(x)


def _is_along_of_truths(x: Var, dim: object = None) -> bool:
    """Not the larger one of two tensors, which has the same name."""
    return is_bool(x) and (dim is None or isinstance(dim, int))


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
    *(
        Lowering(operator=f"a{name}", lower=partial(extreme_along, name), upstream_gap="truths", applies=_is_of_truths)
        for name in ("max", "min")
    ),
    *(
        Lowering(
            operator=f"{name}{overload}",
            lower=partial(extreme_with_place, name),
            upstream_gap="truths",
            applies=_is_along_of_truths,
        )
        for name in ("max", "min")
        for overload in ("", ".dim")
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
