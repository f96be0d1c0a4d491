"""What a specification says of its classes and of a last stage of non-maximum suppression."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message


def labels_of(spec: Message) -> tuple[str, ...] | None:
    """The labels of a classifier or detector, in order; None for other models."""
    kind = spec.WhichOneof("Type")
    if kind in ("pipeline", "pipelineClassifier"):
        models = spec.pipeline.models if kind == "pipeline" else spec.pipelineClassifier.pipeline.models
        return next((labels for stage in models if (labels := labels_of(stage))), None)
    if kind == "nonMaximumSuppression":
        return tuple(spec.nonMaximumSuppression.stringClassLabels.vector) or None
    if kind == "neuralNetworkClassifier":
        return tuple(spec.neuralNetworkClassifier.stringClassLabels.vector)
    if kind != "mlProgram":
        return None
    for operation in program_operations(spec):
        if operation.type == "classify":
            classes = operation.inputs["classes"].arguments[0].value.immediateValue.list
            return tuple(value.immediateValue.tensor.strings.values[0] for value in classes.values)
    return None


def suppression_of(spec: Message) -> dict[str, object] | None:
    """What non-maximum suppression does where it is the last stage; None for models that end otherwise."""
    last = spec.pipeline.models[-1] if spec.WhichOneof("Type") == "pipeline" and spec.pipeline.models else spec
    if last.WhichOneof("Type") != "nonMaximumSuppression":
        return None
    stage = last.nonMaximumSuppression
    return {
        "iou_threshold": stage.iouThreshold,
        "confidence_threshold": stage.confidenceThreshold,
        "per_class": stage.pickTop.perClass,
    }


def program_operations(spec: Message) -> Iterator[Message]:
    """Every operation of an ML program, those of nested blocks included."""
    for function in spec.mlProgram.functions.values():
        yield from _block_operations(function.block_specializations.values())


def _block_operations(blocks: Iterable[Message]) -> Iterator[Message]:
    for block in blocks:
        for operation in block.operations:
            yield operation
            yield from _block_operations(operation.blocks)
