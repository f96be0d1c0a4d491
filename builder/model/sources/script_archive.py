"""Loads TorchScript archives that run no code while they are loaded and call no operator that reaches files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from builder.model.sources.archives import Archive, RefusedArchiveError
from builder.model.sources.operators import may_run
from builder.model.sources.script_code import refuse_computed_constants
from builder.model.sources.storages import refuse_short_storages

_PARTS = re.compile(
    r"data\.pkl|data/\d+|constants\.pkl|constants/\d+|code/[\w./<>-]+\.py(\.debug_pkl)?|version|byteorder"
    r"|\.data/(serialization_id|version)|\.format_version|\.storage_alignment|extra/[^\0]*"
    r"|traced_inputs\.pkl|traced_inputs/\d+|bytecode\.pkl|bytecode/\d+|mobile_debug_handles\.pkl"
)
"""What `torch.jit.save` writes."""

_FOREIGN = b"torch.classes"
"""Where the names of classes begin that are written in C++ and have methods of their own."""

_PACKED = {
    b"torch.classes.quantized": (
        "it is quantized, with weights that are packed for one kind of processor",
        "save the model from before it was quantized, with `- compression: int8` in the defaults list",
    ),
    b"torch.classes.xnnpack": (
        "its weights are packed for the processors of phones",
        "save the script from before `optimize_for_mobile`",
    ),
}
"""By the classes that hold packed weights: what an archive of them is, and what to take in its place."""

_MOST_NODES = 5_000_000
"""Nodes of a method after every call is replaced by what it calls: a decoder of 48 layers has some 100,000."""


def load_script(path: Path) -> Any:
    """Load an archive onto the CPU as `torch.jit.load` does.

    What is pickled in it is read by torch's C++, which makes tensors, containers and TorchScript's own classes alone.
    Raises RefusedArchiveError where it runs code while it is loaded, calls an operator that computes nothing, or is
    something else; RuntimeError, ValueError and OSError as torch does where it is damaged.
    """
    with path.open("rb") as stream:
        _refuse_code_on_load(Archive(stream))
    # As `torch.jit.load` does, but with a compilation unit that can be asked for every function of the archive.
    unit: Any = torch._C.CompilationUnit()
    module = torch._C.import_ir_module(unit, str(path), torch.device("cpu"), {}, False)  # type: ignore[call-arg]
    refuse_functions({str(function.qualified_name): function.graph for function in unit.get_functions()})
    return torch.jit._recursive.wrap_cpp_module(module)  # type: ignore[no-untyped-call]


def _refuse_code_on_load(archive: Archive) -> None:
    """Refuse what runs, or may be called, before there is a graph to look at."""
    archive.refuse_unknown_parts(_PARTS)
    _refuse_packed(archive)
    for name in archive.names:
        if name.endswith(".py") or name in ("data.pkl", "constants.pkl"):
            content = archive.read(name)
            if name.endswith(".py") and b"__setstate__" in content:
                raise RefusedArchiveError("it runs code of its own while it is loaded (`__setstate__`)")
            if _FOREIGN in content:
                raise RefusedArchiveError("it holds objects of classes that are written in C++ (`torch.classes`)")
            if name.endswith(".py"):
                refuse_computed_constants(name, content)
    for name, folder in (("data.pkl", "data/"), ("constants.pkl", "constants/")):
        if name in archive.sizes:
            refuse_short_storages(archive, name, folder)


def _refuse_packed(archive: Archive) -> None:
    """Refuse weights that are packed for one processor, with what to take in place of the archive."""
    code = [archive.read(name) for name in archive.names if name.endswith(".py")]
    for classes, (what, hint) in _PACKED.items():
        if any(classes in content for content in code):
            raise RefusedArchiveError(f"{what} (`{classes.decode()}`)", hint=hint)


def refuse_functions(graphs: Mapping[str, object]) -> None:
    """Raise RefusedArchiveError unless every graph, by its function's name, computes and ends in bounded size."""
    for graph in graphs.values():
        for node in nodes_of(graph):
            if not may_run(node.kind()):
                raise RefusedArchiveError(f"it calls {node.kind()}, which a model from a file may not")
            if node.kind() == "prim::CallMethod" and "torch.classes" in str(node.inputsAt(0).type()):
                raise RefusedArchiveError("it calls a method of a class that is written in C++ (`torch.classes`)")
    refuse_blowup({name: (_own_size(graph), tuple(_callees(graph))) for name, graph in graphs.items()})


def nodes_of(graph: Any) -> Iterator[Any]:
    """Every node of a graph, those of nested blocks and graphs included."""
    waiting = [iter(graph.nodes())]
    while waiting:
        node = next(waiting[-1], None)
        if node is None:
            waiting.pop()
            continue
        yield node
        waiting += [iter(block.nodes()) for block in node.blocks()]
        waiting += [iter(inner.nodes()) for inner in _subgraphs(node)]


def _subgraphs(node: Any) -> Iterator[Any]:
    """The graphs that a node has as attributes, such as what `prim::fork` runs."""
    for name in node.attributeNames():
        kind = node.kindOf(name)
        if kind in ("g", "gs"):
            yield from [node.g(name)] if kind == "g" else node.gs(name)


def _own_size(graph: object) -> int:
    return sum(1 for _ in nodes_of(graph))


def _callees(graph: object) -> Iterator[str]:
    """The functions and methods that a graph calls, by their qualified names."""
    for node in nodes_of(graph):
        if node.kind() == "prim::CallMethod":
            yield f"{node.inputsAt(0).type()}.{node.s('name')}"
        elif node.kind() == "prim::CallFunction":
            yield str(node.inputsAt(0).type())


def refuse_blowup(functions: Mapping[str, tuple[int, tuple[str, ...]]]) -> None:
    """Refuse functions that grow beyond all bounds when calls are inlined: each calls the next one twice, say."""
    total: dict[str, int] = {}
    for start in functions:
        path = [start]
        while path:
            name = path[-1]
            own, callees = functions[name]
            missing = next((callee for callee in callees if callee in functions and callee not in total), None)
            if missing is None:
                total[name] = own + sum(total.get(callee, 0) for callee in callees)
                path.pop()
                if total[name] > _MOST_NODES:
                    raise RefusedArchiveError(f"with its calls replaced it has more than {_MOST_NODES} operators")
            elif missing in path:
                raise RefusedArchiveError(f"its function {missing} calls itself")
            else:
                path.append(missing)
