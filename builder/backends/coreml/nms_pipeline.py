"""A detector's program with Core ML's non-maximum suppression behind it, as Vision and Xcode's preview want it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.artifacts.stages import Suppression
from builder.spec.detection_names import CANDIDATES, DETECTED, THRESHOLDS

if TYPE_CHECKING:
    from google.protobuf.message import Message

PREVIEW = {"com.apple.coreml.model.preview.type": "objectDetector"}
"""What Create ML writes for its object detectors, so that Xcode shows boxes on a picture."""

_MEANINGS = {
    "confidence": "Boxes × Class confidence (the classes are in the metadata of the last stage: {labels})",
    "coordinates": "Boxes × [x, y, width, height] of the centre and size, relative to the picture's size",
    "iouThreshold": "(optional) Overlap over which the less confident of two boxes goes (default: {iou:g})",
    "confidenceThreshold": "(optional) Confidence below which boxes go (default: {confidence:g})",
}
_LABELS_SHOWN = 5


def with_suppression(program: Message, suppression: Suppression, labels: Sequence[str]) -> Message:
    """A pipeline of `program` and a stage of non-maximum suppression with `labels`.

    Given:   image -> program -> raw_confidence (K, C), raw_coordinates (K, 4)
    Result:  image, iouThreshold?, confidenceThreshold? -> program -> suppression -> confidence, coordinates
    """
    made = type(program)(specificationVersion=program.specificationVersion)
    made.pipeline.models.add().CopyFrom(program)
    made.pipeline.models.add().CopyFrom(_stage(program, suppression, labels))
    made.pipeline.names.extend(["detector", "suppression"])
    last = made.pipeline.models[1]
    made.description.input.extend(program.description.input)
    made.description.input.extend(f for f in last.description.input if f.name in THRESHOLDS)
    made.description.output.extend(last.description.output)
    made.description.metadata.CopyFrom(program.description.metadata)
    made.description.metadata.userDefined.update(PREVIEW)
    return made


def _stage(program: Message, suppression: Suppression, labels: Sequence[str]) -> Message:
    """The stage alone (NonMaximumSuppression.proto): boxes of one class suppress each other."""
    made = type(program)(specificationVersion=program.specificationVersion)
    raw = {feature.name: feature for feature in program.description.output}
    made.description.input.extend(raw[name] for name in CANDIDATES)
    for name in THRESHOLDS:
        threshold = made.description.input.add(name=name, shortDescription=_meaning(name, suppression, labels))
        threshold.type.doubleType.SetInParent()
        threshold.type.isOptional = True
    for name, columns, source in zip(DETECTED, (len(labels), 4), CANDIDATES, strict=True):
        output = made.description.output.add(name=name, shortDescription=_meaning(name, suppression, labels))
        array = output.type.multiArrayType
        array.dataType = raw[source].type.multiArrayType.dataType
        array.shapeRange.sizeRanges.add(lowerBound=0, upperBound=suppression.detections)
        array.shapeRange.sizeRanges.add(lowerBound=columns, upperBound=columns)
    stage = made.nonMaximumSuppression
    stage.pickTop.perClass = True
    stage.iouThreshold, stage.confidenceThreshold = suppression.iou_threshold, suppression.confidence_threshold
    stage.confidenceInputFeatureName, stage.coordinatesInputFeatureName = CANDIDATES
    stage.iouThresholdInputFeatureName, stage.confidenceThresholdInputFeatureName = THRESHOLDS
    stage.confidenceOutputFeatureName, stage.coordinatesOutputFeatureName = DETECTED
    stage.stringClassLabels.vector.extend(labels)
    return made


def _meaning(name: str, suppression: Suppression, labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:_LABELS_SHOWN]) + (", …" if len(labels) > _LABELS_SHOWN else "")
    return _MEANINGS[name].format(
        labels=shown, iou=suppression.iou_threshold, confidence=suppression.confidence_threshold
    )
