"""Refuses results that a damaged constant would make huge, before they are computed."""

from __future__ import annotations

import math

from coreml_runtime.limits import memory
from coreml_runtime.ops.context import Context

_BYTES = 8
"""What an element may take at most."""


def expect(context: Context, shape: tuple[int, ...]) -> None:
    """A ValueError where the result would not have its declared shape, or would be more than this machine can hold."""
    declared = context.output_types[0]
    sizes = None if declared is None else declared.shape
    fits = sizes is None or (
        len(sizes) == len(shape) and all(size in (None, given) for size, given in zip(sizes, shape, strict=True))
    )
    if not fits or any(size < 0 for size in shape):
        raise ValueError(f"the result would have the shape {shape}, the file declares {sizes}")
    if math.prod(shape) * _BYTES > memory():
        raise ValueError(f"a result of shape {shape} is more than this machine can hold")
