"""Fourier transforms of any axes as products with matrices of cosines and sines; complex numbers are pairs.

The three operators that every function of `torch.fft` comes down to in an exported program (aten/src/ATen/native/
SpectralOps.cpp): complex to complex, real to complex, complex to real.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import (
    as_float,
    complex_of,
    fixed_size,
    is_complex,
    positive,
    slice_axis,
)

if TYPE_CHECKING:
    import numpy as np

_BY_ROOT, _BY_SIZE = 1, 2
"""torch's `fft_norm_mode`; 0 is none."""

Pair = tuple[Var, Var]


def complex_to_complex(mb: Builder, x: Var, dim: Sequence[int], normalization: int, forward: bool) -> Var:
    """`sum over t of x[t] e^(-2πi kt / n)` along each of the axes, `e^(+…)` where it is not forward."""
    pair = _parts(mb, x)
    for axis in dim:
        pair = _transformed(mb, pair, positive(axis, pair[0].rank), normalization, forward=forward)
    return complex_of(mb, *pair)


def real_to_complex(mb: Builder, x: Var, dim: Sequence[int], normalization: int, onesided: bool) -> Var:
    """The same of real numbers; onesided: of the last axis the first `n // 2 + 1`, whose conjugates the others are."""
    last = positive(dim[-1], x.rank)
    size = fixed_size(x, last, "a Fourier transform")
    kept = size // 2 + 1 if onesided else size
    cosines, sines = waves(size, size, kept, normalization)
    x = as_float(x)
    pair = times(mb, x, last, cosines), times(mb, x, last, -sines)
    for axis in dim[:-1]:
        pair = _transformed(mb, pair, positive(axis, x.rank), normalization, forward=True)
    return complex_of(mb, *pair)


def complex_to_real(mb: Builder, x: Var, dim: Sequence[int], normalization: int, last_dim_size: int) -> Var:
    """Backwards from the first half of the last axis: the others, conjugates of these, count twice."""
    import numpy as np

    pair = _parts(mb, x)
    for axis in dim[:-1]:
        pair = _transformed(mb, pair, positive(axis, x.rank), normalization, forward=False)
    last = positive(dim[-1], x.rank)
    half = last_dim_size // 2 + 1
    doubled = np.full((half, 1), 2.0)
    doubled[0] = 1
    if last_dim_size % 2 == 0:
        doubled[-1] = 1
    cosines, sines = waves(last_dim_size, half, last_dim_size, normalization)
    real, imaginary = (times(mb, part, last, wave * doubled) for part, wave in zip(pair, (cosines, sines), strict=True))
    return mb.sub(x=real, y=imaginary)


def _parts(mb: Builder, x: Var) -> Pair:
    if not is_complex(x):
        x = as_float(x)
        return x, mb.mul(x=x, y=0.0)
    return mb.complex_real(data=x), mb.complex_imag(data=x)


def _transformed(mb: Builder, pair: Pair, axis: int, normalization: int, *, forward: bool) -> Pair:
    """`(a + bi)(C ∓ Si) = (aC ± bS) + (bC ∓ aS)i` along one axis."""
    size = fixed_size(pair[0], axis, "a Fourier transform")
    cosines, sines = waves(size, size, size, normalization)
    sines = sines if forward else -sines
    (a_cos, b_cos), (a_sin, b_sin) = ([times(mb, part, axis, wave) for part in pair] for wave in (cosines, sines))
    return mb.add(x=a_cos, y=b_sin), mb.sub(x=b_cos, y=a_sin)


def waves(size: int, rows: int, columns: int, normalization: int) -> tuple[np.ndarray, np.ndarray]:
    """`cos(2π tk / size)` and `sin` of t < rows and k < columns, divided as the norm says; exact where tk is large."""
    import numpy as np

    turns = np.outer(np.arange(rows), np.arange(columns)) % size * (2 * np.pi / size)
    divisor = {_BY_ROOT: size**0.5, _BY_SIZE: float(size)}.get(normalization, 1.0)
    return np.cos(turns) / divisor, np.sin(turns) / divisor


def times(mb: Builder, x: Var, axis: int, matrix: np.ndarray) -> Var:
    """Product of an axis with a constant matrix."""
    import numpy as np

    matrix = matrix.astype(np.float32)
    if axis == x.rank - 1 and x.rank > 1:
        return mb.matmul(x=x, y=matrix)
    if axis == x.rank - 2:
        return mb.matmul(x=matrix.T.copy(), y=x)
    if x.rank == 1:
        return mb.squeeze(x=mb.matmul(x=mb.expand_dims(x=x, axes=[0]), y=matrix), axes=[0])
    order = [other for other in range(x.rank) if other != axis] + [axis]
    back = [order.index(i) for i in range(x.rank)]
    return mb.transpose(x=mb.matmul(x=mb.transpose(x=x, perm=order), y=matrix), perm=back)


_MODES = {
    True: {"backward": 0, "ortho": _BY_ROOT, "forward": _BY_SIZE},
    False: {"backward": _BY_SIZE, "ortho": _BY_ROOT, "forward": 0},
}
"""By `norm`, whether the transform is forward."""


def fft(forward: bool, mb: Builder, x: Var, n: int | None = None, dim: int = -1, norm: str | None = None) -> Var:
    """`torch.fft.fft` and its inverse along one axis, of a trace."""
    pair = _parts(mb, x)
    axis = positive(dim, pair[0].rank)
    parts = [_of_length(mb, part, axis, n) for part in pair]
    mode = _MODES[forward][norm or "backward"]
    return complex_of(mb, *_transformed(mb, (parts[0], parts[1]), axis, mode, forward=forward))


def rfft(mb: Builder, x: Var, n: int | None = None, dim: int = -1, norm: str | None = None) -> Var:
    """`torch.fft.rfft` of a trace."""
    x = _of_length(mb, as_float(x), positive(dim, x.rank), n)
    return real_to_complex(mb, x, [dim], _MODES[True][norm or "backward"], onesided=True)


def irfft(mb: Builder, x: Var, n: int | None = None, dim: int = -1, norm: str | None = None) -> Var:
    """`torch.fft.irfft` of a trace, to `n` numbers, or to two less than twice as many as there are."""
    pair = _parts(mb, x)
    axis = positive(dim, pair[0].rank)
    length = n or 2 * (fixed_size(pair[0], axis, "a Fourier transform") - 1)
    parts = [_of_length(mb, part, axis, length // 2 + 1) for part in pair]
    return complex_to_real(mb, complex_of(mb, *parts), [axis], _MODES[False][norm or "backward"], length)


def _of_length(mb: Builder, x: Var, axis: int, length: int | None) -> Var:
    """X cut off or filled up with zeros along an axis, whose size the app may choose."""
    if length is None or x.shape[axis] == length:
        return x
    if isinstance(x.shape[axis], int) and x.shape[axis] > length:
        return slice_axis(mb, x, axis, 0, length)
    missing = length - x.shape[axis] if isinstance(x.shape[axis], int) else length
    edges = [0] * (2 * x.rank)
    edges[2 * axis + 1] = missing
    longer = mb.pad(x=x, pad=edges, mode="constant", constant_val=0.0)
    if isinstance(x.shape[axis], int):
        return longer
    sizes = [length if i == axis else size if isinstance(size, int) else -1 for i, size in enumerate(x.shape)]
    cut = slice_axis(mb, longer, axis, 0, length)  # to coremltools, still of a size that the app chooses
    return mb.reshape(x=cut, shape=sizes) if sizes.count(-1) < 2 else cut


def _is_flexible(x: Var) -> bool:
    return not all(isinstance(size, int) for size in x.shape)


_SIZES = "sizes that the app chooses"

FOURIER = (
    *(
        Lowering(operator=name, lower=lower, upstream_gap=_SIZES, applies=_is_flexible)
        for name, lower in (
            *(("fft_fft", partial(fft, True)), ("fft_ifft", partial(fft, False)), ("fft_rfft", rfft)),
            ("fft_irfft", irfft),
        )
    ),
    Lowering(operator="_fft_c2c", lower=complex_to_complex),
    Lowering(operator="_fft_r2c", lower=real_to_complex),
    Lowering(operator="_fft_c2r", lower=complex_to_real),
)
