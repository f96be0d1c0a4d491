"""A loop whose turns an input decides on: torch's own `while_loop`, of the two blocks of the file."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop_op

from coreml_runtime.executor import Blocks
from coreml_runtime.export.folding import Folding
from coreml_runtime.ops.context import is_real
from coreml_runtime.ops.table import Value


def open_loop(values: Sequence[Value], blocks: Blocks) -> tuple[Tensor, ...]:
    """What `values` are after the last turn.

    Whatever the blocks read of the program around them is given to the loop: torch wants its graphs to be closed.
    Raises ValueError where a value is a list, or a turn changes a shape.
    """
    if not all(isinstance(value, Tensor) for value in values):
        raise ValueError("a list goes through a loop whose number of turns depends on an input")
    frame, count = blocks.frame, len(values)
    outer = {slot: value for slot, value in enumerate(frame) if isinstance(value, Tensor) and not is_real(value)}
    begun = tuple(value.clone(memory_format=torch.contiguous_format) for value in values)
    constants = [list[Tensor](), list[Tensor]()]
    for block, met in enumerate(constants):
        with Folding(met):
            blocks(block, *map(_of_a_trace, begun))

    def run(block: int, given: Sequence[Tensor]) -> tuple[Value, ...]:
        around, known = given[count : count + len(outer)], given[count + len(outer) :]
        for slot, value in zip(outer, around, strict=True):
            frame[slot] = value
        own = known[: len(constants[0])] if block == 0 else known[len(constants[0]) :]
        with Folding(given=own):
            return blocks(block, *given[:count])

    def goes_on(*given: Tensor) -> Tensor:
        answer: Tensor = run(0, given)[0]
        return answer.reshape(()) if answer.dtype is torch.bool else answer.reshape(()).to(torch.bool)

    def turn(*given: Tensor) -> tuple[Tensor, ...]:
        results = run(1, given)
        if [tuple(value.shape) for value in results] != [tuple(value.shape) for value in given[:count]]:
            raise ValueError("a turn changes a shape, and the number of turns depends on an input")
        return tuple(
            (value if value.dtype is before.dtype else value.to(before.dtype)).clone(
                memory_format=torch.contiguous_format
            )
            for value, before in zip(results, given, strict=False)
        )

    found: tuple[Tensor, ...] = while_loop_op(goes_on, turn, begun, (*outer.values(), *constants[0], *constants[1]))
    for slot, value in outer.items():
        frame[slot] = value
    return found


def _of_a_trace(value: Tensor) -> Tensor:
    """A value that a turn does not know, as it will be in every turn but the first."""
    if not is_real(value):
        return value
    with torch._C.DisableTorchFunction():
        return torch.zeros(value.shape, dtype=value.dtype)
