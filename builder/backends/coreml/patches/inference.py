"""Types and values that coremltools infers again though nothing has changed since.

Of a conversion of MobileNetV2 and of a small vision transformer this is a tenth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from builder.backends.coreml.patches.apply import Make

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Block, Operation

_MIL = "coremltools.converters.mil.mil"
_HELD = "_builder_inferred"


def inferred_once() -> Iterator[tuple[str, Make]]:
    """Targets of the table, each with what makes its replacement of the original."""
    yield f"{_MIL}.passes.defs.optimize_repeat_ops:reduce_transposes._reduce_transposes_block", _where_there_are_any
    yield f"{_MIL}.ops.defs.iOS15.control_flow:Const._get_type_val", _type_and_value_at_once


def _where_there_are_any(reduce: Callable[[Block], None]) -> Callable[[Block], None]:
    """Look for pairs of transposes where there is one; the pass infers each operator again at its end, whatever it did.

    Where a size is open, inference makes new symbols, and so it runs. The pass gives every output an identity for a
    while, whose names count.
    """

    def reduce_if_any(block: Block) -> None:
        from coremltools.converters.mil import Builder as mb  # noqa: N813 - as coremltools itself calls it

        if any(_may_matter(op) for op in block.operations):
            reduce(block)
            return
        for _ in set(block.outputs):
            mb._get_free_name("identity")

    return reduce_if_any


def _may_matter(op: Operation) -> bool:
    from coremltools.converters.mil.mil.types.symbolic import any_symbolic

    if op.op_type == "const":
        return False
    if op.op_type == "transpose" or op.op_type.startswith("constexpr_") or op.blocks:
        return True
    return any(any_symbolic(output.shape) for output in op.outputs)


def _type_and_value_at_once(infer: Callable[[Any, object], object]) -> Callable[[Any, object], object]:
    """Compute a constant's type and value, which are asked for one after the other, in one go."""

    def infer_once(self: Any, value: object) -> object:
        held = vars(self).pop(_HELD, None)
        if held is not None and held[0] is value:
            return held[1]
        found = infer(self, value)
        vars(self)[_HELD] = value, found
        return found

    return infer_once
