"""MIL's states (iOS18): tensors that a model keeps between predictions, such as key-value caches."""

from __future__ import annotations

from torch import Tensor

from coreml_runtime.ops.table import exact, table


@exact
def read_state(*, input_: Tensor) -> Tensor:
    """A copy of what the state holds now: later writes do not show in it."""
    return input_.clone()


@exact
def write_state(*, input_: Tensor, data: Tensor) -> tuple[()]:
    """Put `data` into the state. coremltools' `coreml_update_state` is stored as this and a `read_state`."""
    if data.shape != input_.shape:
        raise ValueError(f"a state of shape {tuple(input_.shape)} is given {tuple(data.shape)}")
    input_.copy_(data)
    return ()


OPS = table(read_state, write_state)
