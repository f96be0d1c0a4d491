"""Pieces of the two photographs that scikit-learn ships, so that checks see real pictures without a download."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from builder.data.shipped import shipped_file

NAMES = ("china.jpg", "flower.jpg")
LEAST_SHARE = 0.5
"""The smallest piece, as a share of the largest that fits."""


def draw_photograph(index: int, size: tuple[int, int], generator: np.random.Generator) -> Image.Image:
    """Return an RGB piece with the proportions of `size` (width, height), resized to it (bilinear, antialiased).

    `index` takes turns between the photographs; place and size of the piece are drawn.
    """
    photograph = _open(NAMES[index % len(NAMES)])
    width, height = size
    largest = min(photograph.width / width, photograph.height / height)
    factor = largest * (LEAST_SHARE + (1 - LEAST_SHARE) * generator.random())
    piece = (max(1, int(width * factor)), max(1, int(height * factor)))
    left = int(generator.integers(0, photograph.width - piece[0] + 1))
    top = int(generator.integers(0, photograph.height - piece[1] + 1))
    box = (left, top, left + piece[0], top + piece[1])
    return photograph.resize(size, Image.Resampling.BILINEAR, box=box)


@cache
def _open(name: str) -> Image.Image:
    """One decoded photograph, 640 x 427 RGB."""
    with Image.open(shipped_file(f"images/{name}")) as file:
        return file.convert("RGB")
