"""Independent streams of random numbers for each sample and input."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, index: int, name: str) -> np.random.Generator:
    """Return the generator of one input of one sample: other samples and inputs do not change what it gives."""
    return np.random.default_rng([seed % 2**64, index, zlib.crc32(name.encode())])
