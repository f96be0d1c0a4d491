"""Which operators of an ML program read which values, without its weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coreml_runtime.coreai.asset import is_asset
from coreml_runtime.package import open_package

if TYPE_CHECKING:
    from google.protobuf.message import Message


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator of a program's top level; what control flow holds inside reads as the outer operator."""

    type: str
    outputs: tuple[str, ...]
    inputs: frozenset[str]
    stored: str | None = None
    """The name of the compressed weight that it unpacks."""


def read_nodes(path: Path) -> tuple[Node, ...]:
    """The operators of the `main` function, in their order, constants included; types as recipes name them."""
    if is_asset(path):
        from builder.analysis.numerics.assets import asset_nodes

        return asset_nodes(path)
    program = open_package(path).specification.mlProgram
    function = program.functions["main"]
    block = function.block_specializations[function.opset]
    return tuple(
        Node(
            type=operation.type,
            outputs=tuple(output.name for output in operation.outputs),
            inputs=frozenset(_inputs(operation)),
            stored=operation.outputs[0].name if operation.type.startswith("constexpr_") else None,
        )
        for operation in block.operations
    )


def pairs(artifact: Path, reference: Path) -> Mapping[str, str] | None:
    """By a value of `artifact` its counterpart in `reference`; None where equal names say that."""
    if not is_asset(artifact):
        return None
    from builder.analysis.numerics.assets import counterparts

    return counterparts(artifact, reference)


def computed_in_half(artifact: Path, reference: Path, types: Mapping[str, str]) -> frozenset[str]:
    """Which operators of `reference`, whose types are `types`, are computed in half precision in `artifact`.

    Coremltools keeps the names of those that it leaves in float32.
    """
    if is_asset(artifact):
        from builder.analysis.numerics.assets import halved

        return halved(artifact, reference) & types.keys()
    single = {output for node in read_nodes(artifact) if node.type != "cast" for output in node.outputs}
    return frozenset(name for name in types if name not in single)


def readers(nodes: Iterable[Node], name: str) -> Iterator[Node]:
    """The operators that read a value."""
    return (node for node in nodes if name in node.inputs)


def decompressed(nodes: Iterable[Node], name: str) -> tuple[str, ...]:
    """The compressed weights of the operator that computes `name`: of an ML program, the values of `constexpr_*`."""
    made: dict[str, Node] = {output: node for node in nodes for output in node.outputs}
    found: list[str] = []
    waiting = sorted(made[name].inputs) if name in made else []
    while waiting:
        value = waiting.pop()
        producer = made.get(value)
        if producer is None:
            continue
        if producer.stored is not None:
            found.append(producer.stored)
        elif producer.type == "cast":
            waiting += sorted(producer.inputs)
    return tuple(sorted(found))


def _inputs(operation: Message) -> Iterator[str]:
    for argument in operation.inputs.values():
        for bound in argument.arguments:
            if bound.name:
                yield bound.name
    for block in operation.blocks:
        for inner in block.operations:
            yield from _inputs(inner)
