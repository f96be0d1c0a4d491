"""Pipelines: models that run one after another on a common pool of named values, non-maximum suppression among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from coreml_runtime.dtypes import Precision
from coreml_runtime.errors import InputError, ModelError, PredictionError, UnsupportedError
from coreml_runtime.features import ArrayFeature, Feature, ImageFeature, Interface, read_interface
from coreml_runtime.model import Model, build_model
from coreml_runtime.ops.nms import select_boxes
from coreml_runtime.ops.table import Value
from coreml_runtime.package import Package

if TYPE_CHECKING:
    from google.protobuf.message import Message


_DTYPES = {
    "fp32": torch.float32, "fp16": torch.float32, "fp64": torch.float64, "int32": torch.int32, "int8": torch.int8,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Loaded stages, in the file's order."""

    interface: Interface
    stages: tuple[Model, ...]

    def run(
        self, inputs: dict[str, object], *, states: dict[str, Tensor], record: dict[str, object] | None
    ) -> dict[str, Value]:
        """Outputs by name. A stage reads inputs and what earlier stages wrote; a later value replaces an earlier."""
        values, origins = dict(inputs), dict(self.interface.inputs)
        for index, stage in enumerate(self.stages):
            given = {
                name: fit(feature, values[name], origins.get(name), index)
                for name, feature in stage.inputs.items()
                if name in values
            }
            own = {name: state for name, state in states.items() if name in stage.states}
            results = stage.network.run(given, states=own, record=record)
            values.update(results)
            origins.update(stage.outputs)
            if record is not None:
                record.update(results)
        return {name: values[name] for name in self.interface.outputs if name in values}

    def allows(self, feature: ArrayFeature, shape: tuple[int, ...]) -> bool:
        """What the pipeline declares, or what the stage that reads the input takes."""
        if feature.allows(shape):
            return True
        readers = [stage for stage in self.stages if feature.name in stage.inputs]
        declared = [(stage, stage.inputs[feature.name]) for stage in readers]
        return bool(declared) and all(
            isinstance(inner, ArrayFeature) and stage.network.allows(inner, shape) for stage, inner in declared
        )


def fit(feature: Feature, value: object, origin: Feature | None, stage: int) -> Value:
    """A value as the stage declares it: dtype, shape where only unit dimensions differ, order of channels."""
    if isinstance(feature, ArrayFeature) and isinstance(value, Tensor):
        value = value.to(_DTYPES[feature.dtype])
        if not feature.allows(tuple(value.shape)):
            squeezed = [size for size in value.shape if size != 1]
            if feature.shape and squeezed == [size for size in feature.shape if size != 1]:
                return value.reshape(feature.shape)
        return value
    if isinstance(feature, ImageFeature) and isinstance(value, Tensor):
        value = value.to(torch.float32).reshape(1, *value.shape[-3:])
        size = (value.shape[-1], value.shape[-2])
        if not feature.allows(*size):
            found = f"stage {stage}: image {feature.name!r} is {size[0]} x {size[1]}"
            raise InputError(f"{found}, the stage expects {feature.expected()}")
        swapped = isinstance(origin, ImageFeature) and {origin.color, feature.color} == {"RGB", "BGR"}
        return value.flip(1) if swapped else value
    return value


@dataclass(frozen=True, kw_only=True)
class Suppression:
    """The nonMaximumSuppression model: boxes (N, 4) and confidences (N, C), of which the best are kept."""

    message: Message
    interface: Interface

    def run(
        self, inputs: dict[str, Value], *, states: dict[str, Tensor], record: dict[str, object] | None
    ) -> dict[str, Value]:
        """Kept confidences (M, C) and coordinates (M, 4), best first (NonMaximumSuppression.proto)."""
        del states, record
        m = self.message
        confidence = _rows(inputs[m.confidenceInputFeatureName], "confidence")
        coordinates = _rows(inputs[m.coordinatesInputFeatureName], "coordinates")
        if confidence.shape[0] != coordinates.shape[0] or coordinates.shape[1] != 4:
            shapes = f"{tuple(confidence.shape)} and {tuple(coordinates.shape)}"
            raise PredictionError(f"non-maximum suppression needs confidences (N, C) and boxes (N, 4), got {shapes}")
        iou = _threshold(inputs.get(m.iouThresholdInputFeatureName), m.iouThreshold)
        least = _threshold(inputs.get(m.confidenceThresholdInputFeatureName), m.confidenceThreshold)
        candidates = torch.nonzero(confidence.amax(dim=1) >= least).flatten()
        low, high = self._count()
        kept = select_boxes(
            coordinates[candidates].float(),
            confidence[candidates].float(),
            iou,
            None,
            len(candidates) if high is None else high,
            m.pickTop.perClass,
        )
        chosen = candidates[kept]
        pad = (0, 0, 0, max(low - len(chosen), 0))
        return {
            m.confidenceOutputFeatureName: torch.nn.functional.pad(confidence[chosen], pad),
            m.coordinatesOutputFeatureName: torch.nn.functional.pad(coordinates[chosen], pad),
        }

    def _count(self) -> tuple[int, int | None]:
        """The fewest and most rows that the outputs declare; fewer are filled up with zeros."""
        low, high = 0, None
        for name in (self.message.confidenceOutputFeatureName, self.message.coordinatesOutputFeatureName):
            feature = self.interface.outputs.get(name)
            if not isinstance(feature, ArrayFeature) or len(feature.shape or feature.ranges) != 2:
                continue
            if feature.ranges:
                low, high = feature.ranges[0]
            elif feature.shape[0] > 0:
                low, high = feature.shape[0], feature.shape[0]
        return low, high

    def allows(self, feature: ArrayFeature, shape: tuple[int, ...]) -> bool:
        """Any number of boxes: a shape is optional, and a pipeline's stages rarely repeat it."""
        return feature.allows(shape) or len(shape) >= 2


def _rows(value: Tensor, what: str) -> Tensor:
    """(N, K); leading dimensions of 1 are dropped."""
    while value.dim() > 2 and value.shape[0] == 1:
        value = value.squeeze(0)
    if value.dim() != 2:
        raise PredictionError(
            f"non-maximum suppression: {what} has shape {tuple(value.shape)}, two dimensions are needed"
        )
    return value


def _threshold(given: Any, default: float) -> float:
    if given is None:
        return default
    return float(given.reshape(-1)[0]) if isinstance(given, Tensor) else float(given)


def compile_pipeline(package: Package, precision: Precision) -> Pipeline | Suppression:
    """The stages of a pipeline, loaded; what any of them lacks is named in one UnsupportedError."""
    specification = package.specification
    interface = read_interface(specification.description)
    kind = specification.WhichOneof("Type")
    if kind == "nonMaximumSuppression":
        return Suppression(message=specification.nonMaximumSuppression, interface=interface)
    message = specification.pipeline if kind == "pipeline" else getattr(specification, kind).pipeline
    stages, missing = [], []
    for index, stage in enumerate(message.models):
        if stage.WhichOneof("Type") is None:
            raise ModelError(f"{package.path}: stage {index} of the pipeline holds no model")
        path = Path(f"{package.path}#{index}")
        try:
            part = Package(path=path, specification=stage, root=package.root, content=package.content)
            stages.append(build_model(part, precision=precision))
        except UnsupportedError as error:
            missing.append(f"stage {index}: {error}")
    if missing:
        raise UnsupportedError("; ".join(missing))
    _check_wiring(package, interface, stages)
    return Pipeline(interface=interface, stages=tuple(stages))


def _check_wiring(package: Package, interface: Interface, stages: list[Model]) -> None:
    problems = list(_unwired(interface, stages))
    if problems:
        raise ModelError(f"{package.path}: the pipeline does not fit together: {'; '.join(problems)}")


def _unwired(interface: Interface, stages: list[Model]) -> Iterator[str]:
    known = set(interface.inputs)
    for index, stage in enumerate(stages):
        for name, feature in stage.inputs.items():
            if name not in known and not feature.optional:
                yield f"stage {index} reads {name!r}, which nothing before it gives"
        known.update(stage.outputs)
    yield from (f"no stage gives the output {name!r}" for name in interface.outputs if name not in known)
