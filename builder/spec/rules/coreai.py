"""What Core AI cannot express, by name and before anything is loaded (`format: aimodel`)."""

from __future__ import annotations

from collections.abc import Iterator

from builder.errors import Diagnostic
from builder.spec import BuildSpec
from builder.spec.inputs import TensorInput
from builder.spec.module_compression import QuantizationAwareTraining

_CORE_ML = "build `format: mlpackage` for this"


def coreai_problems(spec: BuildSpec) -> Iterator[Diagnostic]:
    """Yield every setting that has no place in an `.aimodel`, each with what to do."""
    yield from _inputs(spec)
    yield from _compression(spec)
    if spec.detection is not None and spec.detection.output == "nms":
        yield Diagnostic(
            code="B0243",
            path=("detection", "output"),
            message="Core AI has no stage of non-maximum suppression",
            hint="write `output: raw`, and let the app suppress boxes; or " + _CORE_ML,
        )


def _inputs(spec: BuildSpec) -> Iterator[Diagnostic]:
    for name, given in spec.artifact_inputs.items():
        if isinstance(given, TensorInput) and given.default_value is not None:
            yield Diagnostic(
                code="B0243",
                path=("input", name, "default_value"),
                message="a Core AI function takes all its inputs, and this one may be left out",
                hint="leave default_value out, and let the app pass that value; or " + _CORE_ML,
            )


def _compression(spec: BuildSpec) -> Iterator[Diagnostic]:
    for name, step in spec.module_compression.items():
        if isinstance(step, QuantizationAwareTraining):
            yield Diagnostic(
                code="B0243",
                path=("compression", name),
                message=f"what {step.kind} makes has quantized tensors, which torch.export does not take",
                hint="take linear_quantize with quantize_activations on the weights that training gave; or " + _CORE_ML,
            )
