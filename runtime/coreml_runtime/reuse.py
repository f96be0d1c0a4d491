"""Which steps of a plan may write over memory that nobody reads afterwards, and which do the work of the next.

Given:  %y = conv(x = %x), %z = silu(x = %y)     where nothing else reads %y
Result: %y = silu(conv(x = %x)), %z = %y         where no rounding comes between them
        %z = silu(%y) in the memory of %y        elsewhere

An activation moves into a convolution or product only where values are not rounded to half: for any function f but
a monotone one whose result half precision has, half(f(half(v))) and half(f(v)) differ.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from coreml_runtime.binding import Argument, Bound, Slot
from coreml_runtime.dtypes import Precision, held
from coreml_runtime.executor import Execution, Frame, Step
from coreml_runtime.in_place import APART, IN_PLACE
from coreml_runtime.ops.context import TensorType
from coreml_runtime.ops.table import Kernel, is_fresh
from coreml_runtime.packed import ACTIVATIONS
from coreml_runtime.prepack import PrepackedKernel, packs
from coreml_runtime.program import Operation

_FLOATING = ("fp16", "fp32")


@dataclass(kw_only=True)
class Memory:
    """What is known of the memory behind slots while a function is planned.

    `own` holds the slots whose memory no other slot shares. `packed` has, for a slot that a packed kernel fills, that
    kernel, the position of its step, and what makes the step with another kernel for the fast way.
    """

    precision: Precision
    own: set[int] = field(default_factory=set)
    packed: dict[int, tuple[PrepackedKernel, int, Callable[[Kernel], Step]]] = field(default_factory=dict)

    def kernel_in_place(
        self, kernel: Kernel, bound: Bound, given: Mapping[str, tuple[Argument, ...]], operation: Operation,
        dead: Collection[int],
    ) -> Kernel | None:  # fmt: skip
        """A kernel that writes over one of `dead`, the slots that nobody reads after the operation, or is faster apart.

        None where there is neither.
        """
        if kernel not in IN_PLACE or not packs() or len(operation.outputs) != 1:
            return None
        declared = operation.outputs[0].type
        if not isinstance(declared, TensorType) or declared.dtype not in _FLOATING or None in declared.shape:
            return None
        if not declared.shape:
            return None
        tensors = [members[0].type for members in given.values() if len(members) == 1 and isinstance(members[0], Slot)]
        if any(not isinstance(type_, TensorType) or type_.dtype != declared.dtype for type_ in tensors):
            return None
        known = [value for value in bound.known.values() if isinstance(value, torch.Tensor)]
        if any(value.dtype is not held(declared.dtype, self.precision) for value in known):
            return None
        for name, twin in IN_PLACE[kernel].items():
            (target,) = given.get(name, (None,))
            if isinstance(target, Slot) and target.type == declared and target.index in self.own & set(dead):
                return twin
        return APART.get(kernel) if held(declared.dtype, self.precision) is torch.float32 else None

    def absorb(
        self, operation: Operation, given: Mapping[str, tuple[Argument, ...]], dead: Collection[int]
    ) -> tuple[int, Step] | None:
        """Position and step of what fills the argument of an activation, done by that step; None where it stays.

        Nobody else reads the argument.
        """
        source = given.get("x", ())
        if operation.type not in ACTIVATIONS or len(source) != 1 or not isinstance(source[0], Slot):
            return None
        slot = source[0]
        if slot.index not in self.packed or slot.index not in dead or slot.type != operation.outputs[0].type:
            return None
        if not isinstance(slot.type, TensorType) or (slot.type.dtype == "fp16" and self.precision == "half"):
            return None
        kernel, position, remake = self.packed[slot.index]
        return position, remake(partial(kernel, activation=ACTIVATIONS[operation.type]))

    def note(self, kernel: Kernel, operation: Operation, slots: tuple[int, ...], read: Iterable[int]) -> None:
        """Remember what an operation does to the memory of what it reads and fills."""
        if operation.blocks or not is_fresh(kernel):
            self.own.difference_update(read)
        elif len(slots) == 1:
            self.own.update(slots)


def moved(step: Step, source: int) -> Step:
    """`step`, whose work the step that fills `source` has done in the fast way."""
    ((_, target),) = step.outputs

    def move(frame: Frame, _: Execution) -> None:
        frame[target] = frame[source]

    return replace(step, fast=move)
