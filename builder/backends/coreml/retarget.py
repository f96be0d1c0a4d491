"""An existing Core ML model in place of a conversion: checked against the recipe, for a later system if it says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.artifacts.stages import CapturedProgram, ConvertedModel, PreparedModel
from builder.errors import ConfigurationError, ConversionError
from builder.model.sources.coreml import CoreMLModule
from builder.spec import BuildSpec
from builder.spec.target import same_system_name

if TYPE_CHECKING:
    from types import ModuleType

    from google.protobuf.message import Message

_GENERATIONS = {4: 13, 5: 14, 6: 15, 7: 16, 8: 17, 9: 18, 10: 26}
"""By specification version, the iOS release that brought it; earlier ones run on iOS 13 too."""


def retarget(ct: ModuleType, captured: CapturedProgram, prepared: PreparedModel, spec: BuildSpec) -> ConvertedModel:
    """Return the file's own model, declared for the recipe's target.

    Raises ConversionError for an older target than the file's, ConfigurationError where format, precision, classifier
    or outputs are not the file's.
    """
    source = next(m for m in captured.program.modules() if isinstance(m, CoreMLModule))
    specification = ct.utils.load_spec(str(source.path))
    _check_format(specification, spec, source)
    _check_precision(specification, spec, source)
    _check_interface(specification, prepared, spec, source)
    raised = _raise_version(ct, specification, spec, source)
    weights = source.path / "Data" / "com.apple.CoreML" / "weights"
    model = ct.models.MLModel(
        specification, weights_dir=str(weights) if weights.is_dir() else None, skip_model_load=True
    )
    return ConvertedModel(model=model, summary=f"{source.path.name} as it is{raised}")


def _check_format(specification: Message, spec: BuildSpec, source: CoreMLModule) -> None:
    is_program = specification.WhichOneof("Type") == "mlProgram"
    if is_program != (spec.format == "mlpackage"):
        what = "an ML program" if is_program else "a neural network"
        wanted = "mlpackage" if is_program else "mlmodel"
        raise ConfigurationError(
            f"{source.path.name} holds {what}, which cannot become an {spec.format}",
            code="B0265",
            hint=f"write `format: {wanted}`; another format is built from the model that it was converted from",
            key="format",
        )


def _check_precision(specification: Message, spec: BuildSpec, source: CoreMLModule) -> None:
    """What a file computes with was decided when it was converted; the recipe says it for the checks' limits."""
    if specification.WhichOneof("Type") != "mlProgram":
        return
    kinds = {
        output.type.tensorType.dataType
        for function in specification.mlProgram.functions.values()
        for block in function.block_specializations.values()
        for operation in block.operations
        if operation.type not in ("const", "cast") and not operation.type.startswith("constexpr_")
        for output in operation.outputs
    }
    has_half, has_single = 10 in kinds, 11 in kinds
    fitting = ["mixed", "fp16"] if has_half and has_single else ["fp16"] if has_half else ["fp32"]
    if spec.precision.kind not in fitting:
        raise ConfigurationError(
            f"{source.path.name} computes in {' and '.join(_words(has_half, has_single))}, and the recipe says "
            f"{spec.precision.kind}",
            code="B0265",
            hint=f"write `precision: {fitting[-1]}`; another one is built from the model that it was converted from",
            key="precision",
        )


def _words(has_half: bool, has_single: bool) -> list[str]:
    return [word for word, has in (("float16", has_half), ("float32", has_single)) if has] or ["integers"]


def _check_interface(specification: Message, prepared: PreparedModel, spec: BuildSpec, source: CoreMLModule) -> None:
    own = specification.description
    is_classifier = bool(own.predictedFeatureName)
    if is_classifier != (spec.classifier is not None):
        raise ConfigurationError(
            f"{source.path.name} is {'a' if is_classifier else 'no'} classifier, and the recipe says otherwise",
            code="B0265",
            hint="write `classifier: {labels: from_weights, softmax: false}`" if is_classifier else "leave it out",
            key="classifier" if spec.classifier is not None else "source.file",
        )
    if spec.classifier is not None and spec.classifier.predicted_feature_name != own.predictedFeatureName:
        raise ConfigurationError(
            f"{source.path.name} calls the best label {own.predictedFeatureName}",
            code="B0265",
            key="classifier.predicted_feature_name",
        )
    names = [feature.name for feature in own.output if feature.name != own.predictedFeatureName]
    if sorted(prepared.output_names) != sorted(names):
        raise ConfigurationError(
            f"{source.path.name} has the output(s) {', '.join(names)}, and the recipe names "
            f"{', '.join(prepared.output_names)}",
            code="B0265",
            hint="a finished model keeps all its outputs and their names",
            key="output",
        )


def _raise_version(ct: ModuleType, specification: Message, spec: BuildSpec, source: CoreMLModule) -> str:
    """Declare the version of the recipe's target; says so where it is another than the file's."""
    own, wanted = specification.specificationVersion, getattr(ct.target, spec.target.coremltools_name).value
    if wanted < own and max(own, 4) > wanted:
        least = same_system_name(spec.target, _GENERATIONS.get(own, 26))
        raise ConversionError(
            f"{source.path.name} needs {least} or later, and the target is {spec.target.name}: its operators may not "
            "exist there",
            code="B0411",
            hint=f"write `target: {least}`, or build it from the model that it was converted from",
            key="target",
        )
    if wanted == own:
        return ""
    specification.specificationVersion = wanted
    return f", now for {spec.target.name}"
