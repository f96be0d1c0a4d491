"""Kernels that a traced program has in the place of the runtime's, where those look at values to decide what to do."""

from __future__ import annotations

import functools
from typing import Any, cast

import torch
from torch import Tensor

from coreml_runtime.executor import Blocks
from coreml_runtime.export.loops import open_loop
from coreml_runtime.export.slices import SLICES
from coreml_runtime.ops import conv, linear, normalization, pool, recurrent, tensor_operation, tensor_transformation
from coreml_runtime.ops.context import Context, is_real
from coreml_runtime.ops.open_sizes import counted, reshaped
from coreml_runtime.ops.table import Kernel, Labels, Tensors, Value, exact, merge, table

_MOST_TURNS = 10_000
"""Of a loop that is written out: each adds its operators to the program."""


@exact
def classify(*, probabilities: Tensor, classes: Labels) -> tuple[None, Tensor]:
    """The probabilities as they are: labels are text, which tensors cannot hold."""
    del classes
    return None, probabilities


@exact
def cond(*, pred: Tensor, context: Context) -> tuple[Value, ...]:
    """The branch of a known predicate; of another both, and of each pair of results the chosen one.

    Raises ValueError where the branches give values of different shapes.
    """
    if is_real(pred):
        return context.run_block(0 if bool(pred) else 1)
    holds = pred.reshape(()).to(torch.bool)
    return tuple(
        _chosen(holds, one, other) for one, other in zip(context.run_block(0), context.run_block(1), strict=True)
    )


def _chosen(holds: Tensor, one: Any, other: Any) -> Tensor:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape):
        raise ValueError("which branch it takes depends on an input, and their results differ in shape")
    return torch.where(holds, one, other)


@exact
def while_loop(*, loop_vars: Tensors, context: Context) -> tuple[Value, ...]:
    """The turns of the loop, written out one after the other, or a loop from the first one on that an input decides on.

    Raises ValueError where they are too many to be written out.
    """
    values: tuple[Value, ...] = loop_vars
    for _ in range(_MOST_TURNS):
        (goes_on,) = context.run_block(0, *values)
        if not is_real(goes_on):
            return open_loop(values, cast(Blocks, context.run_block))
        if not bool(goes_on):
            return values
        values = context.run_block(1, *values)
    raise ValueError(f"it takes more than {_MOST_TURNS} turns")


@exact
def range_1d(*, start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    """start, start + step, … below end."""
    if all(map(is_real, (start, end, step))):
        return tensor_operation.range_1d(start=start, end=end, step=step)
    return counted(start, end, step)


@exact
def reshape(*, x: Tensor, shape: Tensor, context: Context) -> Tensor:
    """X with another shape; of a shape that depends on an input the numbers are worked out in every run."""
    if is_real(shape):
        sizes = tuple(int(size) for size in shape.reshape(-1).tolist())
        return tensor_transformation.reshape(x=x, shape=sizes, context=context)
    return reshaped(x, shape, copies=True)


def _of_one_type(kernel: Kernel) -> Kernel:
    """Computes in float32 where a file gives half precision and float32 to one operator, which torch refuses."""

    @functools.wraps(kernel)
    def run(**given: Any) -> Value:
        floats = {value.dtype for value in given.values() if isinstance(value, Tensor) and value.is_floating_point()}
        if len(floats) > 1:
            given = {
                name: value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
                for name, value in given.items()
            }
        return kernel(**given)

    return run


def _without_half(kernel: Kernel) -> Kernel:
    """Computes in float32 where torch has no kernel for half precision on the CPU, and rounds the result."""

    @functools.wraps(kernel)
    def run(*, x: Tensor, **given: Any) -> Value:
        is_missing = x.dtype is torch.float16 and x.dim() == _OF_THREE_DIMENSIONS
        return kernel(x=x.float(), **given).half() if is_missing else kernel(x=x, **given)

    return run


_OF_THREE_DIMENSIONS = 5
_STRICT = (conv.OPS, linear.OPS, recurrent.OPS, normalization.OPS)
"""Operators of torch that take floats of one type only."""
KERNELS: dict[str, Kernel] = merge(
    table(classify, cond, while_loop, range_1d, reshape),
    SLICES,
    {name: _without_half(each) for name, each in pool.OPS.items()},
    *({name: _of_one_type(each) for name, each in operators.items()} for operators in _STRICT),
)
