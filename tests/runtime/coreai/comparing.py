"""Compares arrays by the steps between neighbouring floats, as kernels of different libraries may differ by a few."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def assert_close(actual: Array, expected: Array, *, ulps: float, context: str) -> None:
    """NaN, infinities, integers and shapes agree; floats differ by `ulps` steps of the type that `expected` has.

    Near zero the step is that of the largest value, since terms that cancel leave its rounding error behind; of one
    sixteenth of it for elementwise operators, whose values differ in size.
    """
    assert actual.shape == expected.shape, f"{context}: shape {actual.shape}, expected {expected.shape}"
    if expected.dtype.kind not in "fc":
        assert np.array_equal(actual, expected), f"{context}: {actual} for {expected}"
        return
    if expected.dtype.kind == "c":
        expected = expected.view(np.float32)
        actual = actual.astype(np.complex64).view(np.float32)
    step = float(np.finfo(expected.dtype).eps)
    wide, found = expected.astype(np.float64), actual.astype(np.float64)
    assert np.array_equal(np.isnan(wide), np.isnan(found)), f"{context}: {actual} for {expected}"
    infinite = np.isinf(wide) | np.isinf(found)
    assert np.array_equal(wide[infinite], found[infinite]), f"{context}: {actual} for {expected}"
    finite = np.isfinite(wide)
    if not finite.any():
        return
    size = np.maximum(np.abs(wide[finite]), np.abs(wide[finite]).max() / 16)
    error = np.abs(wide[finite] - found[finite]) / np.maximum(size * step, np.finfo(expected.dtype).tiny)
    assert error.max() <= ulps, f"{context}: {error.max():.1f} steps, {ulps} allowed: {actual} for {expected}"
