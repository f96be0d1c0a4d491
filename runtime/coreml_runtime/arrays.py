"""Arrays in files that others may have written: no pickles, and one type of error for all that is damaged."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np


def read_npy(stream: BinaryIO) -> np.ndarray:
    """The array of an `.npy` file. Raises ValueError where it is not one, is damaged, or says to hold objects."""
    try:
        found: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)  # type: ignore[no-untyped-call]  # numpy's
    except Exception as error:  # numpy hands on what Python's own tokenizer and parser raise
        raise ValueError(f"it is not a whole .npy file: {error}") from error
    return found
