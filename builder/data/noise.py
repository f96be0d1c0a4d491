"""Seeded noise: arrays in the range that an input declares, and pictures that are smooth with grain on top."""

from __future__ import annotations

import numpy as np
from PIL import Image

from builder.spec.inputs import TensorInput


def draw_array(spec: TensorInput, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Return an array of the input's dtype and of `shape`.

    Integers from `low` (0) to below `high`; floats uniform from `low` to `high` (0 and 1 where only the other is
    given, or one away from it), and normally distributed where neither is.
    """
    if spec.dtype == "int32":
        assert spec.high is not None, "compatibility demands `high`"
        return generator.integers(int(spec.low or 0), int(spec.high), size=shape, dtype=np.int32)
    dtype = np.dtype(spec.dtype)
    if spec.low is None and spec.high is None:
        return generator.standard_normal(shape).astype(dtype)
    low = spec.low if spec.low is not None else min(0.0, (spec.high or 0.0) - 1.0)
    high = spec.high if spec.high is not None else max(1.0, low + 1.0)
    return generator.uniform(low, high, size=shape).astype(dtype)


def draw_noise_picture(size: tuple[int, int], generator: np.random.Generator) -> Image.Image:
    """Return an RGB picture of `size` (width, height): random colours, smoothed, with grain of up to 32 levels."""
    width, height = size
    coarse = generator.integers(0, 256, size=(6, 6, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    grain = generator.integers(-32, 33, size=(height, width, 3))
    return Image.fromarray(np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8))
