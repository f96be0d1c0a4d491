"""What an exported program takes: one tensor an input, of a type, a shape and sizes that may change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from coreml_runtime.errors import UnsupportedError
from coreml_runtime.features import ArrayFeature, Feature, ImageFeature, Range, ScalarFeature
from coreml_runtime.values import array_dtype

_UNLIKELY = 7
"""A size that operators do not ask for."""
_SINGLE = {torch.float64: torch.float32}


@dataclass(frozen=True, kw_only=True)
class Taken:
    """One input. `ranges` holds the smallest and largest size of the axes that are not always the same."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    ranges: Mapping[int, Range] = field(default_factory=dict)

    def example(self) -> torch.Tensor:
        """Zeros of a shape at which no flexible axis is small where it can be larger.

        torch takes a size of 1 for good, and what compares a size with a small number finds them different.
        """
        shape = list(self.shape)
        for axis, (low, high) in self.ranges.items():
            if shape[axis] < _UNLIKELY:
                shape[axis] = max(low, _UNLIKELY if high is None else min(_UNLIKELY, high))
        return torch.zeros(shape, dtype=self.dtype)


def taken(features: Mapping[str, Feature]) -> tuple[Taken, ...]:
    """The inputs of a model as tensors: images as levels of 0 to 255 (1, C, H, W), channels in the model's order.

    Raises UnsupportedError for dictionaries, lists, text and arrays of any shape, naming all of them.
    """
    found, refused = [], []
    for name, feature in features.items():
        if isinstance(feature, ImageFeature):
            found.append(_image(feature))
        elif isinstance(feature, ArrayFeature) and (feature.shape or feature.scalar):
            found.append(_array(feature))
        elif isinstance(feature, ScalarFeature) and feature.kind != "string":
            dtype = torch.float32 if feature.kind == "double" else torch.int64
            found.append(Taken(name=name, dtype=dtype, shape=(1,)))
        else:
            refused.append(f"{name!r} ({feature!r})")
    if refused:
        raise UnsupportedError(f"inputs that are not tensors of a known rank: {', '.join(refused)}")
    return tuple(found)


def _image(feature: ImageFeature) -> Taken:
    channels = 1 if feature.color.startswith("GRAYSCALE") else 3
    shape = (1, channels, feature.height, feature.width)
    if feature.enumerated:
        ranges = _spans([(1, channels, height, width) for width, height in feature.enumerated])
    elif feature.width_range and feature.height_range:
        ranges = _open({2: feature.height_range, 3: feature.width_range})
    else:
        ranges = {}
    return Taken(name=feature.name, dtype=torch.float32, shape=shape, ranges=ranges)


def _array(feature: ArrayFeature) -> Taken:
    dtype = array_dtype(feature)
    ranges = _spans(feature.enumerated) if feature.enumerated else _open(dict(enumerate(feature.ranges)))
    return Taken(name=feature.name, dtype=_SINGLE.get(dtype, dtype), shape=feature.shape, ranges=ranges)


def _spans(shapes: Sequence[Sequence[int]]) -> dict[int, Range]:
    """From the smallest to the largest size of each axis."""
    return _open({axis: (min(sizes), max(sizes)) for axis, sizes in enumerate(zip(*shapes, strict=True))})


def _open(ranges: Mapping[int, Range]) -> dict[int, Range]:
    return {axis: (low, high) for axis, (low, high) in ranges.items() if low != high}
