"""What NeuralNetwork layers need to call kernels of MIL operators that do the same."""

import torch

from coreml_runtime.errors import PredictionError
from coreml_runtime.ops.context import Context, TensorType

# MIL draws from the model's generator where no seed is given; a layer keeps one of its own.
_SEED = 0


def _no_blocks(*_: object) -> tuple[object, ...]:
    raise PredictionError("a NeuralNetwork layer has no nested blocks")


def mil_context(outputs: int) -> Context:
    """The context of an iOS15 program, whose operators do what NeuralNetwork layers do; all is float32."""
    return Context(
        opset="ios15",
        output_types=(TensorType(dtype="fp32", shape=()),) * outputs,
        held=lambda dtype: torch.int32 if dtype == "int32" else torch.float32,
        generator=torch.Generator().manual_seed(_SEED),
        run_block=_no_blocks,
        states={},
    )
