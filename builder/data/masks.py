"""Masks as apps give them: ones up to a length, and zeros for the padding behind it."""

from __future__ import annotations

import numpy as np

from builder.spec.inputs import TensorInput


def prefix_of_ones(given: TensorInput, shape: tuple[int, ...], share: float) -> np.ndarray:
    """Ones along the last axis up to `share` of it (0 to 1), at least one, and zeros behind."""
    length = min(shape[-1], max(1, round(share * shape[-1])))
    mask = np.zeros(shape, dtype=given.dtype)
    mask[..., :length] = 1
    return mask
