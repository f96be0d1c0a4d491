"""What the small blocks compute that reductions carry: known by their one operation, not run as blocks."""

from __future__ import annotations

from builder.runtime.coreai.bytecode import RawBlock, RawOperation
from builder.runtime.coreai.graphs import operator
from builder.runtime.errors import UnsupportedError

_KNOWN = {
    "reduce": frozenset({"add", "mul", "maximum", "minimum", "and", "or"}),
    "reduce_index": frozenset({"greater", "less"}),
}


def combiner(name: str, operation: RawOperation) -> str:
    """The operator that an operation's block applies: "add", "greater"….

    For `reduce_index` "greater" says that a candidate wins that is greater than the best, "less" that is smaller.
    """
    if len(operation.regions) != 1:
        raise UnsupportedError(f"operator {name} with {len(operation.regions)} blocks")
    found = _word(operation.regions[0])
    if name == "reduce_index":
        found = {"greater reversed": "greater", "greater": "less"}.get(found, found)
    if found not in _KNOWN[name]:
        raise UnsupportedError(f"operator {name} that combines by {found}")
    return found


def _word(block: RawBlock) -> str:
    """The one operation on both arguments whose result the block gives; "reversed" where they are exchanged."""
    if len(block.arguments) != 2 or not block.operations:
        return f"a block of {len(block.arguments)} arguments"
    *inner, last = block.operations
    if len(inner) != 1 or last.operands != inner[0].results:
        return f"{len(inner)} operations"
    name = operator(inner[0])
    if inner[0].operands == block.arguments:
        return name
    if inner[0].operands == block.arguments[::-1]:
        return f"{name} reversed"
    return f"{name} of other values"
