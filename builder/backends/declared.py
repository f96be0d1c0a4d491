"""What an artifact of any format must declare of the shapes of an array."""

from __future__ import annotations

import numpy as np

from builder.spec.inputs import ImageInput, RangeDimension, TensorInput, captured_shape


def wanted_shape(given: ImageInput | TensorInput) -> dict[str, object]:
    """The captured shape, and how the app may choose others."""
    return {
        "shape": list(captured_shape(given)),
        "ranges": ranges(given) if has_ranges(given) else None,
        "enumerated_shapes": sorted(given.enumerated_shapes) if given.enumerated_shapes else None,
    }


def has_ranges(given: ImageInput | TensorInput) -> bool:
    """Whether a dimension is a range."""
    return any(isinstance(size, RangeDimension) for size in given.shape)


def ranges(given: ImageInput | TensorInput) -> list[list[int]]:
    """The least and the greatest size of each dimension."""
    return [[size.min, size.max] if isinstance(size, RangeDimension) else [size, size] for size in given.shape]


def stored_default(given: TensorInput) -> float | None:
    """The default value as a file holds it, in the dtype of the input: 0.3 is 0.30000001192092896 in float32."""
    return None if given.default_value is None else float(np.array(given.default_value, given.dtype))
