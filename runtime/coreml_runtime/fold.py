"""Computes at plan time what depends on constants only, above all the decompression of weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from coreml_runtime.binding import Bound, Known
from coreml_runtime.dtypes import Precision, held, holder
from coreml_runtime.errors import ModelError, RuntimeFailure
from coreml_runtime.executor import finisher
from coreml_runtime.ops.context import Context, TensorType
from coreml_runtime.ops.table import Kernel, Value, is_decompression, is_exact
from coreml_runtime.program import Operation

_FAILURES = (RuntimeFailure, RuntimeError, ValueError, IndexError, TypeError, ArithmeticError)

_SMALL = 1 << 16
"""Elements up to which an ordinary operator is folded: larger ones would trade memory for little time."""


def fold(
    operation: Operation, kernel: Kernel, bound: Bound, *, opset: str, precision: Precision
) -> tuple[Known, ...] | None:
    """The operation's outputs if they can be known now, else None."""
    decompression = is_decompression(kernel)
    if not bound.is_known or operation.blocks or not operation.outputs:
        return None
    if not decompression and (bound.context or not all(_is_small(entry.type) for entry in operation.outputs)):
        return None
    arguments = dict(bound.known)
    if bound.context:
        arguments["context"] = _context(operation, opset, precision)

    def compute() -> tuple[Value, ...]:
        with torch.inference_mode():
            result = kernel(**arguments)
            results = result if isinstance(result, tuple) else (result,)
            return tuple(_finish(operation, kernel, value, i, precision) for i, value in enumerate(results))

    if decompression:
        return _decompressed(operation, compute, precision)
    try:
        return tuple(Known(value) for value in compute())
    except _FAILURES:
        return None


def _decompressed(
    operation: Operation, compute: Callable[[], tuple[Value, ...]], precision: Precision
) -> tuple[Known, ...]:
    """Constants from compressed weights; a large one is made when it is first used."""

    def checked() -> tuple[object, ...]:
        try:
            return compute()
        except _FAILURES as error:
            where = f"operator {operation.type} {operation.name!r}"
            raise ModelError(f"{where}: cannot be decompressed: {error}") from error

    declared = operation.outputs[0].type
    if len(operation.outputs) > 1 or not isinstance(declared, TensorType) or _is_small(declared):
        return tuple(Known(value) for value in checked())
    if None in declared.shape or declared.dtype == "string":
        return tuple(Known(value) for value in checked())
    shape = tuple(size or 0 for size in declared.shape)
    outline = torch.empty(shape, dtype=held(declared.dtype, precision), device="meta")
    return (Known(make=lambda: checked()[0], outline=outline),)


def _finish(operation: Operation, kernel: Kernel, value: object, index: int, precision: Precision) -> Value:
    declared = operation.outputs[index].type
    finish = finisher(declared, precision, rounds=not is_exact(kernel))
    if finish is None:
        return value
    return finish(value.contiguous() if isinstance(value, torch.Tensor) else value)


def _is_small(declared: object) -> bool:
    if not isinstance(declared, TensorType) or declared.dtype == "string":
        return False
    return None not in declared.shape and math.prod(size or 0 for size in declared.shape) <= _SMALL


def _no_block(index: int, *_arguments: object) -> tuple[object, ...]:
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
