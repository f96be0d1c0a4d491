"""Rows of tables: each column with a scale and a distribution of its own, some skewed, some of few values."""

from __future__ import annotations

import numpy as np

from builder.data.stress import USUAL, bounds
from builder.spec.inputs import TensorInput

FORMS = ("normal", "skewed", "counts", "flags", "missing", "uniform")
"""How a column is distributed, in turn."""


def draw_table(
    given: TensorInput, shape: tuple[int, ...], seed: int, index: int, generator: np.random.Generator
) -> np.ndarray:
    """Return rows of `shape`, columns along the last axis, in the input's range; categories where it takes integers.

    What a column is depends on `seed` alone, so that all samples are rows of one table; `index` is the sample's.
    """
    low, high = bounds(given)
    columns = np.random.default_rng([seed, shape[-1]])
    rows = int(np.prod(shape[:-1]))
    values = np.empty((rows, shape[-1]))
    for column in range(shape[-1]):
        centre, spread = columns.uniform(0.2, 0.8), columns.uniform(0.02, 0.3)
        values[:, column] = _column(FORMS[column % len(FORMS)], centre, spread, rows, generator)
    if index % 8 == 7:
        values[:] = values[:1]  # rows that are all alike
    scaled = low + np.clip(values, 0, 1) * (high - low)
    if given.dtype == "int32":
        return np.floor(scaled).clip(low, high).reshape(shape).astype(np.int32)
    free = given.low is None and given.high is None
    return (scaled if not free else np.clip(scaled, *USUAL)).reshape(shape).astype(given.dtype)


def _column(form: str, centre: float, spread: float, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Values of one column as shares of the range, nearly all from 0 to 1."""
    match form:
        case "skewed":
            return np.asarray(0.02 * np.exp(generator.standard_normal(rows) * (1 + 2 * spread)))
        case "counts":
            return np.asarray(generator.poisson(3, rows) / 16)
        case "flags":
            return np.asarray(generator.random(rows) < centre).astype(float)
        case "missing":
            known = generator.random(rows) < 0.6
            return np.where(known, centre + spread * generator.standard_normal(rows), 0.0)
        case "uniform":
            return generator.random(rows)
    return np.asarray(centre + spread * generator.standard_normal(rows))
