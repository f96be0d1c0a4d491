"""What coremltools leaves to do for a neural network (.mlmodel): integers as inputs, and weights in half precision."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from builder.artifacts.stages import PreparedModel
from builder.backends.coreml.patches.apply import patched
from builder.backends.coreml.precision import normalization_steps
from builder.spec import BuildSpec
from builder.spec.inputs import TensorInput

if TYPE_CHECKING:
    from coremltools.models import MLModel
    from google.protobuf.message import Message


def declare_integers(specification: Message, spec: BuildSpec) -> None:
    """Declare int32 inputs as such: a neural network takes them, and coremltools calls all arrays float32."""
    for feature in specification.description.input:
        given = spec.artifact_inputs[feature.name]
        if isinstance(given, TensorInput) and given.dtype == "int32":
            array = feature.type.multiArrayType
            array.dataType = array.INT32
            if given.default_value is not None:
                array.intDefaultValue = int(given.default_value)


def halve_weights(model: MLModel, prepared: PreparedModel) -> MLModel:
    """A neural network whose weights are stored in half precision; Core ML itself chooses how it computes.

    The coefficients of a picture's normalisation stay in float32: on levels of 0 to 255 their rounding is seen.
    """
    from coremltools.models import MLModel
    from coremltools.models.neural_network import quantization_utils

    kept = _normalization_constants(model._spec, prepared)

    class Selector(quantization_utils.QuantizedLayerSelector):  # type: ignore[misc]  # coremltools is not typed
        """Every weight but those of the normalisation."""

        def do_quantize(self, layer: Message, **kwargs: object) -> bool:
            return super().do_quantize(layer, **kwargs) and not kept.intersection(layer.output)

    target = "coremltools.models.neural_network.quantization_utils:_get_model"
    with patched(target, lambda _: partial(_unloaded, MLModel)):
        return quantization_utils.quantize_weights(model, nbits=16, selector=Selector())


def _normalization_constants(specification: Message, prepared: PreparedModel) -> set[str]:
    """The values that the first layers behind each image input take: one for a scale, one for a bias.

    Given:   levels = multiply(image, s);  x = add(levels, b);  y = convolution(x)
    Result:  {"image", "s", "levels", "b"}
    """
    depth = normalization_steps(prepared.normalization)
    found: set[str] = set()
    for layer in getattr(specification, specification.WhichOneof("Type")).layers:
        steps = max((depth.get(name, 0) for name in layer.input), default=0)
        if steps:
            found.update(layer.input)
            depth[layer.output[0]] = steps - 1
    return found


def _unloaded(model_class: type[MLModel], spec: Message, compute_units: object) -> MLModel:
    """What coremltools' `_get_model` returns, without loading it into Apple's framework."""
    return model_class(spec, compute_units=compute_units, skip_model_load=True)
