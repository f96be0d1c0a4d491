"""ONNX operators as MIL: onnxsim's handlers, and ours in their place where those lack something or are wrong.

Each takes the lowerer (`lowerer.mb` builds operators), the node, its inputs as MIL variables (None where one is left
out) and its attributes, and returns one variable for each output.
"""

from __future__ import annotations

from collections.abc import Mapping

from builder.backends.coreml.lowerings.onnx_control import CONTROL
from builder.backends.coreml.lowerings.onnx_elementwise import ELEMENTWISE
from builder.backends.coreml.lowerings.onnx_indexing import INDEXING
from builder.backends.coreml.lowerings.onnx_linear import LINEAR
from builder.backends.coreml.lowerings.onnx_lowerer import Lowering
from builder.backends.coreml.lowerings.onnx_quantized import QUANTIZED
from builder.backends.coreml.lowerings.onnx_recurrent import RECURRENT
from builder.backends.coreml.lowerings.onnx_reduction import REDUCTIONS
from builder.backends.coreml.lowerings.onnx_resize import RESIZE
from builder.backends.coreml.lowerings.onnx_shape import SHAPES
from builder.backends.coreml.lowerings.onnx_shared import SHARED
from builder.backends.coreml.lowerings.onnx_signals import SIGNALS
from builder.backends.coreml.lowerings.onnx_windows import WINDOWS

ONNX_OPERATORS: Mapping[str, Lowering] = {
    **CONTROL,
    **ELEMENTWISE,
    **INDEXING,
    **LINEAR,
    **QUANTIZED,
    **RECURRENT,
    **REDUCTIONS,
    **RESIZE,
    **SHAPES,
    **SHARED,
    **SIGNALS,
    **WINDOWS,
}
"""By ONNX's name."""

_THEIRS = ("Concat", "Constant", "ConstantOfShape", "Elu", "Gelu", "LeakyRelu", "Relu", "Slice")
"""What onnxsim converts as we need it. Nothing else of it is used."""


def operators() -> dict[str, Lowering]:
    """The whole table, ours and what is taken from onnxsim."""
    from onnxsim import coreml_export

    theirs = {name: coreml_export._OP_HANDLERS[name] for name in _THEIRS if name in coreml_export._OP_HANDLERS}
    return {**theirs, **ONNX_OPERATORS}
