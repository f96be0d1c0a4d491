"""What an `.aimodel` declares of itself, by our own reader: nothing of Apple's is needed, nothing is executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.artifacts.record import LayerWeights
from builder.backends.coreai.describe import read_metadata
from builder.backends.coreai.modules import RELAYING, weight_name
from builder.backends.description import ArtifactDescription
from builder.errors import SourceError
from coreml_runtime.coreai.description import ConstantInfo, describe_asset
from coreml_runtime.errors import RuntimeFailure

_AS_NUMPY = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}
"""How recipes and numpy call what the runtime calls as MIL does."""
_STRUCTURE = frozenset({"constant", "output", "graph", "yield", "invoke", "create_token", "join_token"})


def describe_artifact(path: Path) -> ArtifactDescription:
    """Read an asset. Raises SourceError where it is damaged or none."""
    try:
        found = describe_asset(path)
    except RuntimeFailure as error:
        raise SourceError(f"the model cannot be read: {error}", code="B0302") from error
    metadata = read_metadata(path) if (path / "metadata.json").is_file() else {}
    own = metadata.get("creatorDefinedMetadata")
    own = own if isinstance(own, Mapping) else {}
    functions = {name: _interface(each, _known_inputs(own, name)) for name, each in found.functions.items()}
    first = functions.get("main") or next(iter(functions.values()))
    labels = own.get("labels")
    return ArtifactDescription(
        version=0,
        inputs=first["inputs"],
        outputs=first["outputs"],
        states=first["states"],
        functions=functions if list(functions) != ["main"] else {},
        labels=tuple(map(str, labels)) if isinstance(labels, list) else None,
        op_counts={name: count for name, count in sorted(found.operators.items()) if name not in _STRUCTURE},
        metadata={str(key): str(value) for key, value in _mapping(own.get("user")).items()},
        shown={
            "author": str(metadata.get("author", "")),
            "license": str(metadata.get("license", "")),
            "version": str(own.get("version", "")),
            "description": str(metadata.get("description", "")),
        },
        weights=tuple(sorted(_weights(found.constants), key=lambda w: (-w.bytes, w.name))),
        suppression=None,
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _known_inputs(own: Mapping[str, object], function: str) -> Mapping[str, object]:
    """What the metadata says of a function's inputs."""
    functions = _mapping(own.get("functions"))
    return _mapping(_mapping(functions.get(function)).get("inputs", own.get("inputs")))


def _interface(interface: Any, known: Mapping[str, object]) -> dict[str, tuple[Mapping[str, Any], ...]]:
    return {
        "inputs": tuple({**_feature(f, "tensor"), **_mapping(known.get(n))} for n, f in interface.inputs.items()),
        "outputs": tuple(_feature(feature, "tensor") for feature in interface.outputs.values()),
        "states": tuple(_feature(feature, "state") for feature in interface.states.values()),
    }


def _feature(feature: Any, kind: str) -> dict[str, object]:
    dtype = _AS_NUMPY.get(feature.dtype, feature.dtype)
    return {"name": feature.name, "kind": kind, "shape": list(feature.shape), "dtype": dtype}


def _weights(constants: tuple[ConstantInfo, ...]) -> list[LayerWeights]:
    """The stored bytes of each weight, those of its parts together, once where functions share it."""
    sizes: Counter[str] = Counter()
    users: dict[str, str] = {}
    seen: set[str] = set()
    for each in constants:
        if "/constant_" in each.name or each.name in seen:
            continue
        seen.add(each.name)
        whole = weight_name(each.name)
        sizes[whole] += each.bytes
        users.setdefault(whole, next((user for user in each.used_by if user not in RELAYING), ""))
    return [
        LayerWeights(name=name, bytes=size, operator=users[name], output=name, module=name.rpartition(".")[0])
        for name, size in sizes.items()
    ]
