"""Which PyTorch module each operator came from, so that reports can call layers by their own names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Block, Operation, Program

_WRAPPER = "model"
"""What the builder calls the user's model inside the module that it captures."""


def modules_of_operators(program: Program) -> dict[str, str]:
    """By output, and by name, of the operators of a MIL `program`: the path of the innermost module.

    The layers of a neural network have the names of operators. Traced programs alone carry paths. An operator that was
    fused from several belongs to the last one's module.
    """
    found = {}
    for function in program.functions.values():
        for operation in operations_of(function):
            path = _innermost(operation)
            if path and operation.outputs:
                found[operation.outputs[0].name] = found[operation.name] = path
    return found


def _innermost(operation: Operation) -> str:
    from coremltools.converters.mil.mil.scope import ScopeSource

    names = operation.scopes.get(ScopeSource.TORCHSCRIPT_MODULE_NAME, [])[:-1]  # the last one is the value's own name
    return ".".join(name for name in (names[1:] if names[:1] == [_WRAPPER] else names) if name)


def operations_of(block: Block) -> Iterator[Operation]:
    """All operators of a block, those of nested blocks after their owner."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from operations_of(inner)
