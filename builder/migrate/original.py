"""The Core ML file that is migrated: its inputs as specs, and what the runtime says it answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from builder.artifacts.stages import Sample
from builder.data.drawing import draw_sample
from builder.errors import ConversionError
from builder.model.sources.coreml import UNBOUNDED, output_tensor
from builder.spec.data import NoiseData
from builder.spec.inputs import ImageInput, RangeDimension, TensorInput, captured_shape
from coreml_runtime import Model, RuntimeFailure, State
from coreml_runtime.export import Exported
from coreml_runtime.export.interface import Taken
from coreml_runtime.features import ArrayFeature, Feature, ImageFeature
from coreml_runtime.ops.random import drawn_by_torch

LARGEST_SIZE = 4
"""What is drawn for inputs whose values give sizes or numbers of turns."""
Inputs = dict[str, ImageInput | TensorInput]

_LAYOUTS = {"RGB": "RGB", "BGR": "BGR", "GRAYSCALE": "G", "GRAYSCALE_FLOAT16": "G16"}
_HIGHS = (2, 10, 100, 1_000, 30_000)
"""What is tried as the end of integers, whose range no file declares."""


@contextmanager
def same_draws() -> Iterator[None]:
    """Within, random numbers come from torch's generator in one and the same state."""
    with torch.random.fork_rng(devices=()), drawn_by_torch():
        torch.manual_seed(0)
        yield


@dataclass(frozen=True, kw_only=True)
class Original:
    """The loaded file; its states go from sample to sample."""

    model: Model
    outputs: tuple[str, ...]
    labels: tuple[str, ...] | None
    _state: list[State] = field(default_factory=list)

    def begin(self) -> None:
        """Make the states anew."""
        self._state[:] = [self.model.make_state()] if self.model.states else []

    def __call__(self, sample: Sample) -> dict[str, torch.Tensor]:
        """What the file answers, by output; raises RuntimeFailure for what it cannot take."""
        inner = [name for name in self.outputs if name not in self.model.outputs]
        with same_draws():
            found = self.model.predict(
                sample.given, state=self._state[0] if self._state else None, intermediates=inner or None
            )
        scores = self.model.interface.predicted_probabilities
        return {name: output_tensor(found[name if name in found else scores], self.labels) for name in self.outputs}


def specs_of(exported: Exported, original: Original) -> Inputs:
    """The inputs as recipes say them, so that samples and stress inputs can be drawn.

    Raises ConversionError for what no recipe can say, since nothing could then be proven.
    """
    found: Inputs = {}
    for taken in exported.inputs:
        feature = exported.features[taken.name]
        found[taken.name] = _spec(taken, feature, gives_sizes=taken.name in exported.needs.sizing)
    return _with_ends(found, original, exported.needs.sizing)


def _spec(taken: Taken, feature: Feature, *, gives_sizes: bool) -> ImageInput | TensorInput:
    sizes = [_dimension(taken, axis) for axis in range(len(taken.shape))]
    several = _several(taken, feature)
    common = {"shape": sizes, "enumerated_shapes": several} if several else {"shape": sizes}
    try:
        if isinstance(feature, ImageFeature):
            layout = _LAYOUTS[feature.color]
            return ImageInput.model_validate({"kind": "image", "color_layout": layout, "scale": 1.0, **common})
        dtype = {torch.float32: "float32", torch.float16: "float16"}.get(taken.dtype, "int32")
        ends = {"low": 1, "high": LARGEST_SIZE + 1} if gives_sizes else {"high": 2} if dtype == "int32" else {}
        return TensorInput.model_validate({"kind": "tensor", "dtype": dtype, **common, **ends})
    except ValueError as error:
        raise ConversionError(
            f"no samples can be drawn for input {taken.name!r}, {feature!r}: {error}", code="B0419"
        ) from error


def _dimension(taken: Taken, axis: int) -> int | RangeDimension:
    if axis not in taken.ranges:
        return taken.shape[axis]
    low, high = taken.ranges[axis]
    size = taken.shape[axis]
    return RangeDimension(min=max(low, 1), max=max(UNBOUNDED, size) if high is None else high, default=size)


def _several(taken: Taken, feature: Feature) -> list[list[int]] | None:
    """The shapes that the file lists, where the program has them all."""
    if not taken.ranges or not isinstance(feature, ArrayFeature | ImageFeature) or not feature.enumerated:
        return None
    if isinstance(feature, ImageFeature):
        return [[*taken.shape[:2], height, width] for width, height in feature.enumerated]
    return [list(shape) for shape in feature.enumerated]


def _with_ends(inputs: Inputs, original: Original, sizing: Collection[str]) -> Inputs:
    """Integers with the largest end up to which the file takes them: they may be places in a table, if not sizes."""
    for name, given in inputs.items():
        if isinstance(given, ImageInput) or given.dtype != "int32" or name in sizing:
            continue
        for high in _HIGHS[1:]:
            tried = {**inputs, name: given.model_copy(update={"high": high})}
            if not _takes(tried, name, high - 1, original):
                break
            inputs = tried
    return inputs


def _takes(inputs: Inputs, name: str, value: int, original: Original) -> bool:
    shapes = {other: captured_shape(given) for other, given in inputs.items()}
    fixed = {name: np.full(shapes[name], value, dtype=np.int32)}
    original.begin()
    try:
        original(draw_sample(NoiseData(kind="noise"), inputs, 0, 0, shapes, fixed=fixed))
    except RuntimeFailure:
        return False
    return True
