"""Token ids as texts have them: few ids often and many seldom, words that come again, padding behind the end."""

from __future__ import annotations

import numpy as np

from builder.spec.data import TextIdsData
from builder.spec.inputs import TensorInput

FLATTENING = 2.7
"""Frequency goes with 1 / (rank + 2.7): Mandelbrot's form of Zipf's law for English."""
REPEATED = 0.25
"""The share of tokens that were in the text before."""


def draw_text_ids(
    given: TensorInput, shape: tuple[int, ...], share: float, data: TextIdsData, generator: np.random.Generator
) -> np.ndarray:
    """Return int32 ids of `shape`, texts along the last axis that fill `share` (0 to 1) of it."""
    assert given.high is not None, "compatibility demands `high`"
    low, high = int(given.low or 0), int(given.high)
    reserved = [value for value in (data.pad, data.begin, data.end) if value is not None]
    ids = np.setdiff1d(np.arange(low, high), reserved)
    ids = ids if len(ids) else np.arange(low, high)
    chances = 1 / (np.arange(len(ids)) + FLATTENING)
    length = min(shape[-1], max(1, round(share * shape[-1])))
    rows = [
        _text(ids, chances / chances.sum(), length, shape[-1], data, generator) for _ in range(int(np.prod(shape[:-1])))
    ]
    return np.clip(np.stack(rows), low, high - 1).reshape(shape).astype(np.int32)


def _text(
    ids: np.ndarray, chances: np.ndarray, length: int, size: int, data: TextIdsData, generator: np.random.Generator
) -> np.ndarray:
    text = generator.choice(ids, size=length, p=chances)
    for place in np.nonzero(generator.random(length) < REPEATED)[0]:
        if place:
            text[place] = text[int(generator.integers(place))]
    if data.begin is not None:
        text[0] = data.begin
    if data.end is not None:
        text[-1] = data.end
    return np.concatenate([text, np.full(size - length, ids[0] if data.pad is None else data.pad)])
