"""The reference page of the operators and layers that run, written from coremltools' registry and our tables.

`python -m builder.backends.coreml.runtime_reference > docs/reference/runtime_operators.md` writes it;
a test fails when it drifts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from coreml_runtime.nn import layers
from coreml_runtime.ops import operators
from coreml_runtime.ops.table import Kernel, parameters
from coreml_runtime.proto import messages

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation

_HEAD = """# Operators of the runtime

Written by `python -m builder.backends.coreml.runtime_reference`; do not edit.

## ML programs

Opsets are those in which coremltools {version} defines an operator anew; a definition holds until the next one, the
last one also for iOS26. State: **complete**, the kernel takes every parameter of every definition; otherwise what it
does not take. A program with something else is refused by name before anything runs.

| operator | family | defined in | state |
|---|---|---|---|
"""

_OWN_NAMES = {
    "const": "read with the program",
    "_const_symbolic": "never written to a file: for coremltools' own tests",
}
"""Operators of the registry that need no kernel."""

_FILE_ONLY = {"write_state": "what `coreml_update_state` becomes in a file"}
"""Operators that files have and the registry lacks."""

_CONTROL_LAYERS = {
    "branch": "runs",
    "loop": "runs",
    "loopBreak": "runs",
    "loopContinue": "runs",
    "custom": "refused by its name: its code is not in the file",
}
"""Layers that are part of the network's own control flow, not of a table."""


def render_reference() -> str:
    """Return the page as Markdown."""
    import coremltools

    lines = [_HEAD.format(version=coremltools.__version__).rstrip("\n"), *_operator_rows()]
    lines += ["", "## Neural networks", "", "| layer | family | state |", "|---|---|---|", *_layer_rows()]
    return "\n".join(lines) + "\n"


def _operator_rows() -> Iterator[str]:
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    registry: Mapping[str, Mapping[object, type[Operation]]] = SSAOpRegistry.core_ops
    kernels = operators()
    for name in sorted(registry.keys() | kernels.keys()):
        definitions = _definitions(registry.get(name, {}))
        if name in _OWN_NAMES:
            yield f"| `{name}` | | {', '.join(definitions)} | {_OWN_NAMES[name]} |"
        elif name in kernels:
            family = kernels[name].__module__.rpartition(".")[2]
            opsets = ", ".join(definitions) or f"files only: {_FILE_ONLY[name]}"
            yield f"| `{name}` | {family} | {opsets} | {_state(kernels[name], definitions)} |"
        else:
            yield f"| `{name}` | | {', '.join(definitions)} | **missing** |"


def _definitions(by_opset: Mapping[object, type[Operation]]) -> dict[str, type[Operation]]:
    """The classes that define an operator, by the opset that their module is named after."""
    found: dict[str, type[Operation]] = {}
    for cls in by_opset.values():
        found.setdefault(cls.__module__.split(".")[-2], cls)
    return dict(sorted(found.items()))


def _state(kernel: Kernel, definitions: Mapping[str, type[Operation]]) -> str:
    taken = {parameter.name for parameter in parameters(kernel)}
    lacks = [
        f"{opset}: {', '.join(missing)}"
        for opset, cls in definitions.items()
        if (missing := sorted(name for name in cls.input_spec.input_types if name not in taken and name[0] != "_"))
    ]
    return "does not take " + "; ".join(lacks) if lacks else "complete"


def _layer_rows() -> Iterator[str]:
    layer = messages("NeuralNetwork_pb2").NeuralNetworkLayer
    binders = layers()
    names = {field.name for field in layer.DESCRIPTOR.oneofs_by_name["layer"].fields}
    for name in sorted(names | binders.keys(), key=str.lower):
        if name in _CONTROL_LAYERS:
            yield f"| `{name}` | network | {_CONTROL_LAYERS[name]} |"
        elif name in binders:
            yield f"| `{name}` | {binders[name].__module__.rpartition('.')[2]} | runs |"
        else:
            yield f"| `{name}` | | **missing** |"


if __name__ == "__main__":
    sys.stdout.write(render_reference())
