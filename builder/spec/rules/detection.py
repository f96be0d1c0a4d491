"""What cannot go together with a detector, found before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from builder.errors import Diagnostic
from builder.spec import BuildSpec
from builder.spec.detection import TorchvisionDetection
from builder.spec.detection_names import DETECTED, THRESHOLDS
from builder.spec.inputs import ImageInput, is_flexible
from builder.spec.outputs import FROM_WEIGHTS
from builder.spec.source import TorchvisionSource
from builder.spec.source_kinds import kind_of


def detection_problems(spec: BuildSpec) -> Iterator[Diagnostic]:
    """Yield every problem of what the recipe asks of a detector."""
    if spec.detection is None:
        return
    yield from _beside(spec)
    yield from _input(spec)
    yield from _names(spec)
    yield from _source(spec)


def _beside(spec: BuildSpec) -> Iterator[Diagnostic]:
    """What a detector is not at the same time."""
    assert spec.detection is not None
    if spec.classifier is not None:
        yield Diagnostic(
            code="B0251",
            path=("classifier",),
            message="a detector is not a classifier: `detection.labels` names its classes",
        )
    if spec.state:
        yield Diagnostic(code="B0251", path=("state",), message="a detector keeps no state")
    if spec.output and spec.detection.output == "nms":
        yield Diagnostic(
            code="B0251",
            path=("output",),
            message=f"the outputs of a detector are {' and '.join(DETECTED)}, which Vision looks for",
            hint="leave `output` out, or write `detection.output: raw` and name boxes and scores",
        )
    if not spec.format_kind.is_program:
        yield Diagnostic(
            code="B0251",
            path=("format",),
            message="a detector is built as an ML program",
            hint="write `format: mlpackage` with target ios15 or later",
        )


def _input(spec: BuildSpec) -> Iterator[Diagnostic]:
    """One picture of one size: boxes are shares of it, and anchors are laid out for it."""
    assert spec.detection is not None
    first, *others = spec.artifact_inputs
    given = spec.artifact_inputs[first]
    if others:
        yield Diagnostic(
            code="B0251", path=("input", others[0]), message=f"a detector takes one picture, and that is {first}"
        )
    if is_flexible(given):
        yield Diagnostic(
            code="B0251",
            path=("input", first, "shape"),
            message="a detector takes pictures of one size: its boxes are decoded for that",
            hint="give height and width as numbers; Vision scales pictures to them",
        )
    elif len(given.shape) != 4 or given.shape[0] != 1:
        yield Diagnostic(
            code="B0251", path=("input", first, "shape"), message="a detector takes one picture of shape [1, C, H, W]"
        )
    elif spec.detection.output == "nms" and not isinstance(given, ImageInput):
        yield Diagnostic(
            code="B0251",
            path=("input", first, "kind"),
            message="Vision finds objects in pictures, and this input is an array",
            hint="write `kind: image` with its normalisation, or `detection.output: raw`",
        )


def _names(spec: BuildSpec) -> Iterator[Diagnostic]:
    assert spec.detection is not None
    for name in spec.artifact_inputs:
        if spec.detection.output == "nms" and name in (*THRESHOLDS, *DETECTED):
            yield Diagnostic(
                code="B0251", path=("input", name), message=f"a detector has an input or output named {name} of its own"
            )


def _source(spec: BuildSpec) -> Iterator[Diagnostic]:
    assert spec.detection is not None
    if kind_of(spec.source).is_finished:
        yield Diagnostic(
            code="B0245", path=("detection",), message="an existing Core ML model is what it is: leave `detection` out"
        )
    if not isinstance(spec.detection, TorchvisionDetection):
        return
    if not (kind_of(spec.source).has_modules or kind_of(spec.source).is_finished):
        yield Diagnostic(
            code="B0251",
            path=("detection", "kind"),
            message=f"detection of kind torchvision needs torchvision's own module, and a source of kind "
            f"{spec.source.kind} is a program",
            hint="take the model from torchvision or from a factory; or `kind: boxes` where the program returns them",
        )
    published = isinstance(spec.source, TorchvisionSource) and spec.source.weights is not None
    if spec.detection.labels == FROM_WEIGHTS and not published:
        yield Diagnostic(
            code="B0251",
            path=("detection", "labels"),
            message="labels from the weights need a source with published weights",
            hint="name a text file with one label a line, or list the labels",
        )
