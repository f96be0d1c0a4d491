"""Which inputs are masks, and masks as apps give them: ones up to a length, and zeros for the padding behind it."""

from __future__ import annotations

import numpy as np

from builder.spec.inputs import ImageInput, TensorInput


def is_binary(given: ImageInput | TensorInput) -> bool:
    """Whether an input takes the integers 0 and 1 alone."""
    return isinstance(given, TensorInput) and given.dtype == "int32" and (given.low or 0) == 0 and given.high == 2


def is_mask(name: str, given: ImageInput | TensorInput) -> bool:
    """Whether an input is a mask: its name says so, and it takes integers of 0 and 1, or floats from 0 to 1."""
    if "mask" not in name.lower() or not isinstance(given, TensorInput):
        return False
    return is_binary(given) or (given.dtype != "int32" and given.low == 0 and given.high == 1)


def prefix_of_ones(given: TensorInput, shape: tuple[int, ...], share: float) -> np.ndarray:
    """Ones along the last axis up to `share` of it (0 to 1), at least one, and zeros behind."""
    length = min(shape[-1], max(1, round(share * shape[-1])))
    mask = np.zeros(shape, dtype=given.dtype)
    mask[..., :length] = 1
    return mask
