"""Computes at plan time what depends on constants only, above all the decompression of weights."""

from __future__ import annotations

import math
from typing import Any

import torch

from builder.runtime.binding import Bound, Known, known
from builder.runtime.dtypes import Precision, holder
from builder.runtime.errors import ModelError, RuntimeFailure
from builder.runtime.executor import finisher
from builder.runtime.ops.context import Context, TensorType
from builder.runtime.ops.table import Kernel, is_exact
from builder.runtime.program import Operation

_SMALL = 1 << 16
"""Elements up to which an ordinary operator is folded: larger ones would trade memory for little time."""


def fold(
    operation: Operation, kernel: Kernel, bound: Bound, *, opset: str, precision: Precision
) -> tuple[Known, ...] | None:
    """The operation's outputs if they can be known now, else None."""
    decompression = operation.type.startswith("constexpr_")
    if not bound.is_known or operation.blocks or not operation.outputs:
        return None
    if not decompression and (bound.context or not all(_is_small(entry.type) for entry in operation.outputs)):
        return None
    arguments = dict(bound.known)
    if bound.context:
        arguments["context"] = _context(operation, opset, precision)
    try:
        with torch.inference_mode():
            result = kernel(**arguments)
            results = result if isinstance(result, tuple) else (result,)
            return tuple(known(_finish(operation, kernel, value, i, precision)) for i, value in enumerate(results))
    except (RuntimeFailure, RuntimeError, ValueError, IndexError, TypeError, ArithmeticError) as error:
        if not decompression:
            return None
        raise ModelError(f"operator {operation.type} {operation.name!r}: cannot be decompressed: {error}") from error


def _finish(operation: Operation, kernel: Kernel, value: Any, index: int, precision: Precision) -> Any:
    declared = operation.outputs[index].type
    finish = finisher(declared, precision, rounds=not is_exact(kernel))
    if finish is None:
        return value
    return finish(value.contiguous() if isinstance(value, torch.Tensor) else value)


def _is_small(declared: object) -> bool:
    if not isinstance(declared, TensorType) or declared.dtype == "string":
        return False
    return None not in declared.shape and math.prod(size or 0 for size in declared.shape) <= _SMALL


def _no_block(index: int, *_arguments: Any) -> tuple[Any, ...]:
    raise ModelError(f"block {index} of an operator without blocks")


def _context(operation: Operation, opset: str, precision: Precision) -> Context:
    return Context(
        opset=opset,
        output_types=tuple(e.type if isinstance(e.type, TensorType) else None for e in operation.outputs),
        held=holder[precision],
        generator=torch.Generator(),
        run_block=_no_block,
        states={},
    )
