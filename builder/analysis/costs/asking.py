"""Asks a kernel of the runtime for the shape of its result: with tensors that have shapes and no numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from builder.analysis.costs.values import Value, tensor_type
from coreml_runtime.binding import Known, bind_arguments
from coreml_runtime.dtypes import holder
from coreml_runtime.errors import RuntimeFailure
from coreml_runtime.ops.context import Context
from coreml_runtime.ops.table import Kernel, is_decompression
from coreml_runtime.program import Operation

FAILURES = (RuntimeFailure, RuntimeError, ValueError, IndexError, TypeError, KeyError, ArithmeticError, AttributeError)
"""What a kernel raises that needs numbers: the shape is not known then."""
_RECURRENT = frozenset({"lstm", "gru", "rnn"})


def ask(
    operation: Operation, kernel: Kernel, given: Mapping[str, Sequence[Value]], opset: str
) -> tuple[Any, ...] | None:
    """The results by outlines, one for each output; None where the kernel needs numbers that nobody has."""
    if operation.type in _RECURRENT:
        return _recurrent(operation, given)
    if is_decompression(kernel) or any(v.outline is None and v.sources is None for vs in given.values() for v in vs):
        return None
    arguments = {key: tuple(Known(value.outline) for value in values) for key, values in given.items()}
    try:
        bound = bind_arguments(kernel, arguments, operation.name)
        known = dict(bound.known)
        if bound.context:
            known["context"] = _context(operation, opset)
        result = kernel(**known)
    except FAILURES:
        return None
    results = result if isinstance(result, tuple) else (result,)
    return results if len(results) == len(operation.outputs) else None


def _context(operation: Operation, opset: str) -> Context:
    return Context(
        opset=opset,
        output_types=tuple(tensor_type(entry.type) for entry in operation.outputs),
        held=holder["fast"],
        generator=torch.Generator(),
        run_block=_no_block,
        states={},
    )


def _no_block(index: int, *_arguments: object) -> tuple[object, ...]:
    raise ValueError(f"block {index} is not executed here")


def _recurrent(operation: Operation, given: Mapping[str, Sequence[Value]]) -> tuple[Any, ...] | None:
    """The sequence (S or 1, B, D * H), and the last states (B, D * H); the kernels look at numbers."""
    x, state = given["x"][0].shape, given["initial_h"][0].shape
    if x is None or state is None:
        return None
    all_ = given.get("output_sequence", ())
    steps = x[0] if all_ and all_[0].known is not None and bool(all_[0].known) else 1
    sequence = torch.empty((steps, *state), device="meta")
    return (sequence, *(torch.empty(state, device="meta") for _ in operation.outputs[1:]))
