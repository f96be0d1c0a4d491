"""Casts that MIL lacks, or does otherwise than torch: to complex numbers, to bfloat16, to integers of 8 and 16 bits."""

from __future__ import annotations

from collections.abc import Sequence

from builder.backends.coreml.lowerings.lowering import Builder, Constant, Lowering, Unused, UpstreamBug, Var
from builder.backends.coreml.lowerings.variables import as_float, complex_of, is_bool, is_complex, is_integer

_COMPLEX_HALF, _COMPLEX, _BFLOAT16 = 8, (8, 9, 10), 15
_NARROW = {0: (8, False), 1: (8, True), 2: (16, True), 27: (16, False)}
"""torch's numbers of dtypes: uint8, int8, int16 and uint16 with their bits and whether there is a sign."""
_WIDE = {28: "uint32", 29: "uint64"}
NO_COMPLEX_HALF = "Core ML has no complex numbers of half precision: use complex64"


def cast(
    mb: Builder,
    x: Var,
    *given: Constant,
    dtype: Constant = None,
    **_: Unused,
) -> Var:
    """To complex numbers `x + 0i`, to narrow integers what their bits hold. Raises NotImplementedError for others."""
    number = _dtype(given, dtype)
    if number in _WIDE:
        raise NotImplementedError(f"Core ML has no {_WIDE[number]}: its integers are int32")
    if number == _BFLOAT16:
        raise NotImplementedError("Core ML has no bfloat16: compute in float32 or float16")
    if number == _COMPLEX_HALF:
        raise NotImplementedError(NO_COMPLEX_HALF)
    if number in _NARROW:
        return narrowed(mb, x, *_NARROW[number])
    if is_complex(x):
        return complex_of(mb, mb.complex_real(data=x), mb.complex_imag(data=x))
    x = as_float(x)
    return complex_of(mb, mb.identity(x=x), mb.mul(x=x, y=0.0))


def narrowed(mb: Builder, x: Var, bits: int, signed: bool) -> Var:
    """The lowest bits of integers as 32-bit integers, as torch casts; MIL's cast stops at the ends of the dtype."""
    if is_bool(x) or not is_integer(x):
        x = mb.cast(x=x, dtype="int32")
    half = 2 ** (bits - 1) if signed else 0
    lowest = mb.mod(x=mb.add(x=x, y=half) if half else x, y=2**bits)
    return mb.sub(x=lowest, y=half) if half else lowest


def _dtype(given: Sequence[Constant], dtype: Constant) -> int | None:
    """The number by which torch knows the dtype that is asked for.

    `to(dtype, …)` has 3, 4, 6 or 7 arguments, `to(device, dtype, …)` has 5.
    """
    count = len(given)
    asked = given[1] if count == 5 else given[0] if count in (1, 3, 4, 6, 7) else dtype
    return asked if isinstance(asked, int) and not isinstance(asked, bool) else None


def _is_beyond(*given: Constant, dtype: Constant = None) -> bool:
    return _dtype(given, dtype) in (*_NARROW, *_WIDE, *_COMPLEX, _BFLOAT16)


CASTS = tuple(
    Lowering(
        operator=name,
        lower=cast,
        upstream_gap="complex numbers and bfloat16",
        wrong=UpstreamBug(issue=None, summary="stops at the ends of 8 and 16 bits, or knows no such integers at all"),
        applies=_is_beyond,
    )
    for name in ("to", "_to_copy")
)
