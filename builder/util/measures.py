"""How far a result is from its reference, and whether the reference says anything at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

NEARLY_ZERO = 1e-6
"""An output whose values all lie under this is nearly zero: half precision has little left below it (2**-24)."""

MULTIPLE = 4.0
"""How much more than the original's own uncertainty a difference may be. The order of sums is another one in every
library: two of them differ by up to twice what each differs from float64, and one way of measuring sees only a part of
it. Twice as much again is still 12 dB."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A result against its reference, over all their elements, computed in double precision."""

    max_abs: float
    """max |result - reference|"""
    relative_error: float
    """max |result - reference| / max |reference|"""
    snr_db: float
    """10 log10(sum reference**2 / sum (result - reference)**2); infinite where they are equal"""
    psnr_db: float
    """10 log10(max |reference|**2 / mean (result - reference)**2); infinite where they are equal"""
    cosine: float
    """reference . result / (|reference| |result|)"""


def compare(
    reference: torch.Tensor | np.ndarray, result: torch.Tensor | np.ndarray, *, size: float = 0.0
) -> Difference:
    """Measure `result` against `reference`, of the same shape; NaN or infinity in either makes every value NaN.

    `size` is what one value of the output has over all samples (`typical_size`): a signal that is less than one such
    value counts as one, so that an output that happens to be all but zero is not judged on a scale of nothing.
    """
    expected, got = _double(reference), _double(result)
    if expected.shape != got.shape:
        raise ValueError(f"shapes {expected.shape} and {got.shape} differ")
    expected, got = expected.ravel(), got.ravel()
    if not (np.isfinite(expected).all() and np.isfinite(got).all()):
        return Difference(max_abs=math.nan, relative_error=math.nan, snr_db=math.nan, psnr_db=math.nan, cosine=math.nan)
    error = got - expected
    max_abs = float(np.abs(error).max(initial=0.0))
    largest = max(float(np.abs(expected).max(initial=0.0)), size)
    signal, noise = float(expected @ expected), float(error @ error)
    norms = math.sqrt(signal) * math.sqrt(float(got @ got))
    return Difference(
        max_abs=max_abs,
        relative_error=max_abs / largest if largest else (0.0 if max_abs == 0 else math.inf),
        snr_db=decibels(max(signal, size**2), noise),
        psnr_db=decibels(largest**2 * expected.size, noise),
        cosine=float(expected @ got) / norms if norms else (1.0 if signal == noise == 0 else 0.0),
    )


def typical_size(references: Sequence[torch.Tensor | np.ndarray]) -> float:
    """The size of one value of an output over several samples: the median of their root mean squares.

    Samples that are nearly zero, and values that are not finite, do not count where others are there.
    """
    arrays = [array[np.isfinite(array)] for array in map(_double, references)]
    sizes = [(float(np.abs(a).max()), math.sqrt(float(a @ a) / a.size)) for a in arrays if a.size]
    large = [size for largest, size in sizes if largest >= NEARLY_ZERO]
    return float(np.median(large or [size for _, size in sizes] or [0.0]))


def where_finite(reference: torch.Tensor | np.ndarray, *others: torch.Tensor | np.ndarray) -> tuple[np.ndarray, ...]:
    """All of them as float64 with zeros where the reference is NaN or infinite: that is not asked of anything."""
    expected = _double(reference)
    finite = np.isfinite(expected)
    return tuple(np.where(finite, values, 0.0) for values in (expected, *map(_double, others)))


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise) of two energies; infinite without noise."""
    if noise == 0:
        return math.inf
    return -math.inf if signal == 0 else 10 * math.log10(signal / noise)


HALF_MAX = 65504.0
"""The largest number in half precision."""
HALF_SMALLEST = 2.0**-14
"""The smallest that it holds with all of its bits."""


def count_nan(values: torch.Tensor | np.ndarray) -> int:
    """How many elements are not a number."""
    return int(np.isnan(_double(values)).sum())


def count_overflow(values: torch.Tensor | np.ndarray) -> int:
    """How many elements are infinite or beyond what half precision holds."""
    return int((np.abs(_double(values)) > HALF_MAX).sum())


def why_meaningless(references: Sequence[torch.Tensor | np.ndarray]) -> str | None:
    """Say why agreement with these references (one output, several samples) would prove nothing, or None.

    Anything agrees with an output that is nearly zero, constant, or the same for every sample. Values that are NaN or
    infinite are looked past.
    """
    if not any(np.isfinite(_double(r)).any() for r in references):
        return "the original's output holds no finite number"
    arrays = [where_finite(r)[0] for r in references]
    largest = max((float(np.abs(a).max(initial=0.0)) for a in arrays), default=0.0)
    if largest < NEARLY_ZERO:
        return f"the original's output is nearly zero (at most {largest:.2g})"
    same_everywhere = all(a.size > 1 and np.ptp(a) < NEARLY_ZERO * largest for a in arrays)
    if same_everywhere:
        return "the original's output is constant"
    if len(arrays) > 1 and all(
        a.shape == arrays[0].shape and np.abs(a - arrays[0]).max(initial=0.0) < NEARLY_ZERO * largest
        for a in arrays[1:]
    ):
        return "the original's output is the same for every sample"
    return None


def _double(values: torch.Tensor | np.ndarray) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().to(torch.float64).numpy()
    return np.asarray(values, dtype=np.float64)
