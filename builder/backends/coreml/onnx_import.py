"""A captured ONNX graph as a MIL program, by onnxsim's converter; coremltools has none since its version 6."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from builder.artifacts.stages import PreparedModel
from builder.backends.coreml.lowerings.onnx import operators
from builder.backends.coreml.lowerings.onnx_lowerer import lowerer_class
from builder.backends.coreml.patches.apply import patched
from builder.errors import ConversionError
from builder.model.capture.onnx import simplified
from builder.model.capture.onnx_branches import without_known_branches
from builder.spec import BuildSpec
from builder.spec.inputs import captured_shape

if TYPE_CHECKING:
    from types import ModuleType

    from onnx import ModelProto


def mil_program(
    ct: ModuleType, model: ModelProto, prepared: PreparedModel, spec: BuildSpec, names: Sequence[str]
) -> Any:
    """Return the program in float32, not yet optimised for `spec`; its outputs are called `names`.

    Raises ConversionError that names the operator where there is no conversion of it.
    """
    from onnxsim import coreml_export

    table = operators()
    _forget_symbols(list(_ranges(prepared, spec)))
    try:
        plain = _without_functions(model, table)
        with (
            patched("onnxsim.coreml_export:_Lowerer", lambda plain_lowerer: lowerer_class(plain_lowerer, table, plain)),
            patched("onnxsim.coreml_export:_resolve_quantized_target", lambda _: _same_target),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            program = coreml_export.convert_to_coreml(
                plain,
                convert_to="milinternal",
                compute_precision=ct.precision.FLOAT32,
                minimum_deployment_target=getattr(ct.target, spec.target.coremltools_name),
                dynamic_shapes=_ranges(prepared, spec) or None,
            )
    except RuntimeError as error:
        message = (
            str(error).removesuffix(".").replace("model/", "")
        )  # the capture puts that in front of the file's names
        raise ConversionError(f"the ONNX graph cannot be converted: {message}", code="B0401", key="source") from error
    for output, name in zip(program.functions["main"].outputs, names, strict=True):
        output.name = name
    return program


def _forget_symbols(names: Sequence[str]) -> None:
    """Let dimensions be called again as an earlier conversion of this process called its own."""
    from coremltools.converters.mil.mil import program

    for name in names:
        program.k_used_symbols.pop(name, None)


def _same_target(ct: ModuleType, model: ModelProto, target: object) -> Any:  # noqa: ARG001 - onnxsim's signature
    """Our quantization is arithmetic, which every system has; onnxsim asks for iOS 17 and its operators."""
    return target


def _ranges(prepared: PreparedModel, spec: BuildSpec) -> dict[str, tuple[int, int, int]]:
    """By the name of a dimension that the app chooses: its least, captured and greatest size."""
    return {
        size.name: (size.min, captured_shape(given)[dimension], size.max)
        for given, sizes in zip(spec.artifact_inputs.values(), prepared.flexible, strict=False)
        for dimension, size in sizes.items()
    }


def _without_functions(model: ModelProto, handlers: Any) -> Any:
    """Write operators that ONNX itself defines by others (HardSwish, LogSoftmax, …) as those, unless known."""
    import onnx

    given = model
    for _ in range(4):  # what an operator is defined by may be defined by others again
        unknown = sorted(
            {
                node.op_type
                for node in model.graph.node
                if node.domain == "" and node.op_type not in handlers and _has_definition(onnx, node.op_type)
            }
        )
        if not unknown:
            break
        model = onnx.inliner.inline_selected_functions(
            # some definitions depend on the types of their inputs
            onnx.shape_inference.infer_shapes(_with_defaults(onnx, model, unknown)),
            [("", name) for name in unknown],
            exclude=False,
            inline_schema_functions=True,
        )
    # definitions compute with sizes, which can be folded now that they are written out
    return model if model is given else simplified(without_known_branches(model))


def _with_defaults(onnx: ModuleType, model: ModelProto, names: Sequence[str]) -> Any:
    """A copy in which these operators have all their attributes: the inliner leaves out those that are not written."""
    completed = onnx.ModelProto()
    completed.CopyFrom(model)
    for node in completed.graph.node:
        if node.op_type in names and node.domain == "":
            written = {attribute.name for attribute in node.attribute}
            for name, attribute in onnx.defs.get_schema(node.op_type).attributes.items():
                if name not in written and attribute.default_value.type != onnx.AttributeProto.UNDEFINED:
                    node.attribute.append(attribute.default_value)
    return completed


def _has_definition(onnx: ModuleType, name: str) -> bool:
    if not onnx.defs.has(name):
        return False
    schema = onnx.defs.get_schema(name)
    return bool(schema.has_function or schema.has_context_dependent_function)
