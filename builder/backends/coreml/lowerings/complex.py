"""Complex numbers as pairs of real ones, as rotary embeddings use them."""

from __future__ import annotations

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import complex_of, is_complex, promoted, slice_axis


def view_as_complex(mb: Builder, x: Var) -> Var:
    """(…, 2) as complex numbers (…)."""
    real, imaginary = (mb.squeeze(x=slice_axis(mb, x, -1, part, part + 1), axes=[-1]) for part in range(2))
    return complex_of(mb, real, imaginary)


def mul(mb: Builder, x: Var, other: Var) -> Var:
    """`(a + bi)(c + di) = (ac - bd) + (ad + bc)i`; with a real number each part by itself."""
    if not is_complex(x):
        x, other = other, x
    a, b = mb.complex_real(data=x), mb.complex_imag(data=x)
    if not is_complex(other):
        a, other = promoted(a, other)
        return complex_of(mb, mb.mul(x=a, y=other), mb.mul(x=b, y=other))
    c, d = mb.complex_real(data=other), mb.complex_imag(data=other)
    real = mb.sub(x=mb.mul(x=a, y=c), y=mb.mul(x=b, y=d))
    return complex_of(mb, real, mb.add(x=mb.mul(x=a, y=d), y=mb.mul(x=b, y=c)))


def polar(mb: Builder, x: Var, angle: Var) -> Var:
    """`x (cos angle + i sin angle)`."""
    x, angle = promoted(x, angle)
    return complex_of(mb, mb.mul(x=x, y=mb.cos(x=angle)), mb.mul(x=x, y=mb.sin(x=angle)))


def conj(mb: Builder, x: Var) -> Var:
    """`a - bi`; a real number stays what it is."""
    if not is_complex(x):
        return mb.identity(x=x)
    return complex_of(mb, mb.complex_real(data=x), mb.mul(x=mb.complex_imag(data=x), y=-1.0))


def resolved(mb: Builder, x: Var) -> Var:
    """X itself: torch writes out here what it had put off."""
    if is_complex(x):
        return complex_of(mb, mb.complex_real(data=x), mb.complex_imag(data=x))
    return mb.identity(x=x)


def unsqueeze(mb: Builder, x: Var, dim: int) -> Var:
    """A new axis for both parts."""
    parts = (mb.expand_dims(x=part, axes=[dim]) for part in (mb.complex_real(data=x), mb.complex_imag(data=x)))
    real, imaginary = parts
    return complex_of(mb, real, imaginary)


def _is_complex(x: Var) -> bool:
    return is_complex(x)


def _joined(mb: Builder, real: Var, imag: Var) -> Var:
    """Both parts as one."""
    return complex_of(mb, real, imag)


def _have_other_sizes(real: Var, imag: Var) -> bool:
    """Whether coremltools has other symbols for the open sizes of one part."""
    return tuple(real.shape) != tuple(imag.shape)


COMPLEX = (
    Lowering(operator="complex", lower=_joined, upstream_gap="open sizes", applies=_have_other_sizes),
    *(Lowering(operator=name, lower=view_as_complex) for name in ("view_as_complex", "view_as_complex_copy")),
    Lowering(operator="unsqueeze", lower=unsqueeze, upstream_gap="complex numbers", applies=_is_complex),
    Lowering(operator="polar", lower=polar),
    *(Lowering(operator=name, lower=conj) for name in ("conj", "_conj", "_conj_physical", "conj_physical")),
    *(Lowering(operator=name, lower=resolved) for name in ("resolve_conj", "resolve_neg")),
)
