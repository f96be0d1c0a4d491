"""Control flow and states."""

from __future__ import annotations

from torch import Tensor

from coreml_runtime.ops import states
from coreml_runtime.ops.context import Context
from coreml_runtime.ops.table import Kernel, Tensors, Value, exact, merge, table


@exact
def if_(*, condition: bool, context: Context) -> tuple[Value, ...]:
    """The outputs of the first block where the condition holds, else of the second."""
    return context.run_block(0 if condition else 1)


@exact
def while_(*, inits: Tensors, context: Context) -> tuple[Value, ...]:
    """The first block says whether to go on, and with what the second runs, or what the result is."""
    values: tuple[Value, ...] = inits
    while True:
        going, *passed = context.run_block(0, *values)
        if not bool(going):
            return tuple(passed)
        values = context.run_block(1, *passed)


@exact
def read_handle(*, handle: Tensor) -> Tensor:
    """A copy of what the state holds now."""
    return states.read_state(input_=handle)


@exact
def write_handle(*, handle: Tensor, data: Tensor) -> tuple[()]:
    """Put data into the state."""
    return states.write_state(input_=handle, data=data)


OPS: dict[str, Kernel] = merge(table(if_, while_), table(read_handle, write_handle))
