"""What an `.aimodel` says of itself: inputs, outputs and states of functions, operators, bytes of weights, metadata."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.artifacts.record import LayerWeights
from builder.backends.coreai.child import call
from builder.backends.coreai.modules import RELAYING, weight_name
from builder.backends.coreai.sealing import HASH, METADATA, PROGRAM
from builder.errors import SourceError

if TYPE_CHECKING:
    from builder.backends.coreai.adapter import Graph, Program, Type

_SECONDS = 600.0
_STRUCTURE = frozenset({"constant", "output", "graph", "yield", "invoke", "create_token", "join_token"})
"""What computes nothing."""
_TYPES = {"f32": "float32", "f16": "float16", "i1": "bool"}


@dataclass(frozen=True, kw_only=True)
class Description:
    """The saved file in plain values; features have `name`, `kind`, `shape` and `dtype`, as in `build.json`."""

    functions: Mapping[str, Mapping[str, tuple[Mapping[str, Any], ...]]]
    """By name: `inputs`, `outputs` and `states`."""
    op_counts: Mapping[str, int]
    weights: tuple[LayerWeights, ...]
    """The largest first."""
    metadata: Mapping[str, Any]
    """`author`, `license`, `description`, and under `creatorDefinedMetadata` what the recipe added."""


def check_whole(asset: Path) -> None:
    """Raise SourceError for a folder that is not an asset, or whose program is not the one that was written."""
    for name in (PROGRAM, METADATA):
        if not (asset / name).is_file():
            raise SourceError(f"{asset} is no .aimodel: it has no {name}", code="B0303")
    if (asset / HASH).is_file():
        with (asset / PROGRAM).open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").digest() != (asset / HASH).read_bytes():
                raise SourceError(f"{asset} is damaged: {HASH} is not the SHA-256 of {PROGRAM}", code="B0302")


def read_metadata(asset: Path) -> dict[str, object]:
    """What `metadata.json` says. Raises SourceError where it is damaged."""
    try:
        content = json.loads((asset / METADATA).read_bytes())
    except ValueError as error:
        raise SourceError(f"{asset / METADATA} is damaged: {error}", code="B0302") from error
    if not isinstance(content, dict):
        raise SourceError(f"{asset / METADATA} is damaged: it is not JSON object", code="B0302")
    return content


def describe(asset: Path) -> Description:
    """Read an asset; nothing of it is executed. Raises SourceError where it is damaged."""
    check_whole(asset)
    metadata = read_metadata(asset)
    functions, counts, weights = call("describe:run", asset.absolute(), seconds=_SECONDS)
    return Description(functions=functions, op_counts=counts, weights=weights, metadata=metadata)


def run(asset: Path) -> tuple[dict[str, Any], dict[str, int], tuple[LayerWeights, ...]]:
    """What `describe` reads of the program, in the child."""
    from builder.backends.coreai import adapter

    program = adapter.load_program(asset)
    with adapter.module_of(program).context:
        functions = {
            adapter.name_of(graph): _interface(graph)
            for graph in adapter.graphs(program)
            if not adapter.is_private(graph)
        }
        counts = Counter(adapter.plain_name(op) for op in adapter.walk(adapter.module_of(program).operation))
        weights = sorted(_weights(program), key=lambda w: (-w.bytes, w.name))
    return functions, {n: c for n, c in sorted(counts.items()) if n not in _STRUCTURE}, tuple(weights)


def operators(asset: Path) -> dict[str, int]:
    """How many operators of each kind, without constants and structure; in the child."""
    return run(asset)[1]


def _interface(graph: Graph) -> dict[str, tuple[dict[str, Any], ...]]:
    from builder.backends.coreai import adapter

    takes, gives = adapter.interface(graph)
    return {
        "inputs": tuple(_feature(name, kind, "tensor") for name, kind in takes if not adapter.is_handle(kind)),
        "outputs": tuple(_feature(name, kind, "tensor") for name, kind in gives if adapter.is_tensor(kind)),
        "states": tuple(_feature(n, adapter.inner_type(k), "state") for n, k in takes if adapter.is_handle(k)),
    }


def _feature(name: str, kind: Type, what: str) -> dict[str, object]:
    from builder.backends.coreai import adapter

    shape, element = adapter.tensor_type(kind)
    plain = _TYPES.get(element, element.replace("si", "int").replace("ui", "uint"))
    return {"name": name, "kind": what, "shape": list(shape), "dtype": plain}


def _weights(program: Program) -> Iterator[LayerWeights]:
    """The stored bytes of each weight, those of its parts together, once where functions share it."""
    from builder.backends.coreai import adapter

    sizes: dict[str, int] = {}
    users: dict[str, str] = {}
    seen: set[str] = set()
    for op in adapter.constants(program):
        name = adapter.resource_name(op)
        if name is None or name in seen:
            continue
        seen.add(name)
        whole = weight_name(name)
        sizes[whole] = sizes.get(whole, 0) + len(adapter.constant_bytes(op))
        user = next(adapter.final_users(op, RELAYING), None)
        if user is not None:
            users.setdefault(whole, user.name)
    for name, size in sizes.items():
        path = name.rpartition(".")[0]
        yield LayerWeights(name=name, bytes=size, operator=users.get(name, ""), output=name, module=path)
