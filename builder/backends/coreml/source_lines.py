"""Which line of the model's own code each operator came from, so that a report can name it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from builder.backends.coreml.module_names import operations_of
from builder.backends.coreml.patches.apply import patched
from builder.backends.coreml.preflight.operators import Place, frames_of_python, frames_of_trace, user_place

if TYPE_CHECKING:
    from coremltools.converters.mil.frontend.torch.internal_graph import InternalTorchIRNode
    from coremltools.converters.mil.mil import Program

    from builder.backends.coreml.lowerings.views import Node

_NODES = "coremltools.converters.mil.frontend.torch.internal_graph:InternalTorchIRNode.from_torchscript_node"
_PACKAGES = "site-packages"


@contextmanager
def noted_lines() -> Iterator[dict[str, str]]:
    """The lines of a traced program's nodes, by the names that coremltools gives them while it converts.

    It gives nodes names of its own before it makes operators of them, and forgets where they came from.
    """
    lines: dict[str, str] = {}

    def noting(
        make_node: Callable[..., InternalTorchIRNode],
    ) -> Callable[..., InternalTorchIRNode]:
        def noted(node: Node, parent: object) -> InternalTorchIRNode:
            made = make_node(node=node, parent=parent)
            text = node.sourceRange()
            if (place := user_place(frames_of_trace(text)) or user_place(frames_of_python(text))) is not None:
                lines[made.name] = written(place)
            return made

        return noted

    with patched(_NODES, noting):
        yield lines


def lines_of_operators(program: Program, traced: Mapping[str, str]) -> dict[str, str]:
    """By output, and by name, of the operators of a MIL `program`: the line, as `net.py:12`.

    An exported program says it itself; of a trace `traced` has it by node.
    """
    from coremltools.converters.mil.mil.scope import ScopeSource

    found = {}
    for function in program.functions.values():
        for operation in operations_of(function):
            names = operation.scopes.get(ScopeSource.TORCHSCRIPT_MODULE_NAME, [])
            stack = operation.scopes.get(ScopeSource.EXIR_STACK_TRACE, [])
            place = user_place(frames_of_python(stack[-1] or "")) if stack else None
            line = traced.get(names[-1]) if names else None if place is None else written(place)
            if line and operation.outputs:
                found[operation.outputs[0].name] = found[operation.name] = line
    return found


def written(place: Place) -> str:
    """A line without what only this machine has: below the working directory, in its package, or the file alone."""
    path = Path(place.file)
    if path.is_relative_to(Path.cwd()):
        shown = path.relative_to(Path.cwd())
    elif _PACKAGES in path.parts:
        shown = Path(*path.parts[path.parts.index(_PACKAGES) + 1 :])
    else:
        shown = Path(path.name)
    return f"{shown.as_posix()}:{place.line}"
