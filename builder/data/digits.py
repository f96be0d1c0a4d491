"""scikit-learn's 1,797 handwritten digits: light ink on black, 8 x 8, with their labels."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image

from builder.data.shipped import shipped_file
from builder.data.streams import stream
from builder.errors import SourceError

TRAIN_COUNT = 1437
"""The customary split, four fifths: those after it are mostly by other writers."""
INK_LEVELS = 16


def draw_digits(split: str, count: int | None, seed: int) -> tuple[Sequence[Image.Image], Sequence[str]]:
    """Return pictures of mode L, 8 x 8, with labels "0" to "9"; all of the split, or `count` of it in seeded order.

    Raises SourceError when the split has fewer.
    """
    levels, labels = load_digits()
    part = slice(0, TRAIN_COUNT) if split == "train" else slice(TRAIN_COUNT, None)
    levels, labels = levels[part], labels[part]
    if count is not None and count > len(labels):
        raise SourceError(
            f"the {split} part of the digits has {len(labels)} samples, and {count} are asked for", code="B0333"
        )
    chosen = np.arange(len(labels))
    if count is not None:
        chosen = stream(seed, 0, "digits").permutation(len(labels))[:count]
    return [Image.fromarray(levels[i]) for i in chosen], [str(labels[i]) for i in chosen]


@cache
def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the pictures as uint8 levels (1797, 8, 8), ink scaled from 0…16 to 0…255, and labels (1797,)."""
    with gzip.open(shipped_file("data/digits.csv.gz"), "rt", encoding="ascii") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    levels = (table[:, :-1] * 255 + INK_LEVELS // 2) // INK_LEVELS
    return levels.astype(np.uint8).reshape(-1, 8, 8), table[:, -1]
