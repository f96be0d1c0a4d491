"""The program of an asset as graphs: what a file's functions take, give and are made of, in the dialect's own names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from coreml_runtime.coreai.bytecode import Container, RawBlock, RawOperation, Value, read_container
from coreml_runtime.coreai.dialect import DIALECT, Attribute, Choice, Decoder, GraphType, Pair, Symbol
from coreml_runtime.errors import ModelError, UnsupportedError
from coreml_runtime.mapping import Buffer

_OPENED = frozenset({"serialization.asset", "dataflow.graph_v1", "dataflow.namespace_v1"})

_PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "constant": ("value",),
    "gelu": ("approximate",),
    "interpolate": ("interpolation_mode",),
    "interpolate_coordinates": ("interpolation_mode",),
    "invoke": ("arg_attrs", "callee", "res_attrs"),
    "pad": ("padding_mode",),
    "scan": ("combiner",),
    "scatter_along_axis": ("scatter_mode",),
}
"""The attributes of the operators that have any, in the order in which they are stored."""

_GRAPH = ("arg_attrs", "composite", "externalize", "type", "no_inline", "name", "private", "parameters", "res_attrs")


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """An input or output of a graph."""

    name: str
    type: GraphType


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A function of the program; a private one is only called by others."""

    name: str
    private: bool
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    block: RawBlock


@dataclass(frozen=True, kw_only=True)
class Program:
    """All graphs by name, in the file's order, and what decodes their types and attributes."""

    container: Container
    decoder: Decoder
    graphs: Mapping[str, Graph] = field(repr=False)

    @property
    def entries(self) -> dict[str, Graph]:
        """The graphs that can be loaded as functions."""
        return {name: graph for name, graph in self.graphs.items() if not graph.private}

    def attributes(self, operation: RawOperation) -> dict[str, Attribute]:
        """The attributes of an operation by name. One that is not known here is an UnsupportedError."""
        cursor = self.decoder.properties(operation.properties)
        found = {}
        for name in _PROPERTIES.get(operator(operation), ()):
            found[name] = self.decoder.next_attribute(cursor)
        if cursor.left:
            raise UnsupportedError(f"operator {operation.name} with attributes of its own")
        return found

    def type(self, value: Value) -> GraphType:
        """The declared type of a value."""
        return self.decoder.type(value.type)


def read_program(data: Buffer) -> Program:
    """Parse `main.mlirb`."""
    container = read_container(data, DIALECT, _OPENED)
    decoder = Decoder(container)
    graphs: dict[str, Graph] = {}
    for graph in _find_graphs(container.root, decoder):
        if graph.name in graphs:
            raise ModelError(f"the function {graph.name!r} is defined twice")
        graphs[graph.name] = graph
    if not any(not graph.private for graph in graphs.values()):
        raise ModelError("the program has no function that can be called")
    return Program(container=container, decoder=decoder, graphs=graphs)


def operator(operation: RawOperation) -> str:
    """The operator's name in the dialect `coreai`: "conv2d" of "primitive.conv2d_v1", "add" of "broadcasting_add_v1".

    A later version of an operator that changed is another operator: "quantize_v1", where "quantize" is version 2.
    """
    group, _, name = operation.name.rpartition(".")
    match = re.fullmatch(r"(.+)_v(\d+)", name)
    if match is None or group not in _GROUPS:
        return operation.name
    plain = match[1].removeprefix("broadcasting_").removeprefix("logical_")
    return plain if int(match[2]) == _CURRENT.get(plain, 1) else f"{plain}_v{match[2]}"


_GROUPS = frozenset({"", "primitive", "dataflow", "controlflow"})
_CURRENT = {"blockwise_shift_scale": 2, "dequantize": 2, "get_shape": 2, "quantize": 2, "reshape": 2, "tile": 2}
"""Versions of operators that are not the first."""


def walk(block: RawBlock) -> Iterator[RawOperation]:
    """All operations of a block and of the blocks in it."""
    for operation in block.operations:
        yield operation
        for region in operation.regions:
            yield from walk(region)


def count_operators(program: Program) -> Counter[str]:
    """How often each operator occurs, as the dialect spells it on disk without group and version."""
    counts: Counter[str] = Counter()
    for graph in program.graphs.values():
        counts.update(re.sub(r"^.*\.|_v\d+$", "", each.name) for each in walk(graph.block))
    return counts


def _find_graphs(block: RawBlock, decoder: Decoder) -> Iterator[Graph]:
    for operation in block.operations:
        if operation.name == "dataflow.graph_v1":
            yield _read_graph(operation, decoder)
        elif operation.name in _OPENED:
            for region in operation.regions:
                yield from _find_graphs(region, decoder)
        else:
            raise UnsupportedError(f"{operation.name} outside of a function")


def _read_graph(operation: RawOperation, decoder: Decoder) -> Graph:
    cursor = decoder.properties(operation.properties)
    found = {name: decoder.next_attribute(cursor) for name in _GRAPH}
    name = found["name"]
    if not isinstance(name, str) or len(operation.regions) != 1:
        raise ModelError(f"a function of the name {name!r} and {len(operation.regions)} bodies")
    block = operation.regions[0]
    last = block.operations[-1] if block.operations else None
    if last is None or last.name != "dataflow.output_v1":
        raise ModelError(f"function {name!r} does not end with its outputs")
    return Graph(
        name=name,
        private=found["private"] == 1,
        inputs=_ports(found["arg_attrs"], block.arguments, decoder, "input"),
        outputs=_ports(found["res_attrs"], last.operands, decoder, "output"),
        block=block,
    )


def _ports(attributes: Attribute, values: tuple[Value, ...], decoder: Decoder, kind: str) -> tuple[Port, ...]:
    """Values with the names that the file gives them; a value without one is called by its place."""
    entries = attributes if isinstance(attributes, tuple) else ()
    names = [f"{kind}_{place}" for place in range(len(values))]
    for place, entry in enumerate(entries[: len(values)]):
        for pair in entry if isinstance(entry, tuple) else ():
            if isinstance(pair, Pair) and pair.name == f"{DIALECT}.name" and isinstance(pair.value, str):
                names[place] = pair.value
    return tuple(Port(name=name, type=decoder.type(value.type)) for name, value in zip(names, values, strict=True))


def word(attribute: Attribute) -> str:
    """An attribute that chooses one of a list."""
    if not isinstance(attribute, Choice):
        raise ModelError(f"{attribute!r} where a choice is expected")
    return attribute.word


def callee(attribute: Attribute) -> str:
    """The graph that an invocation names."""
    if not isinstance(attribute, Symbol):
        raise ModelError(f"{attribute!r} where a function is expected")
    return attribute.name
