"""What an `.aimodel` declares of itself, by our own reader: nothing of Apple's is needed, nothing is executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from builder.artifacts.features import Feature, StateFeature, TensorFeature
from builder.artifacts.record import LayerWeights
from builder.backends.coreai.describe import read_metadata
from builder.backends.coreai.modules import RELAYING, weight_name
from builder.backends.description import ArtifactDescription
from builder.errors import SourceError
from coreml_runtime.coreai.description import ConstantInfo, describe_asset
from coreml_runtime.errors import RuntimeFailure
from coreml_runtime.features import ArrayFeature, Interface
from coreml_runtime.features import Feature as Declared
from coreml_runtime.pictures import known_inputs

_Size = Annotated[int, Field(ge=1, lt=2**31)]
_Bound = Annotated[int, Field(ge=-1, lt=2**31)]
"""Of a range; -1 is any size."""
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
    functions = {name: _interface(each, known_inputs(own, name)) for name, each in found.functions.items()}
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


def _interface(interface: Interface, known: Mapping[str, Mapping[str, object]]) -> dict[str, tuple[Feature, ...]]:
    return {
        "inputs": tuple(_known(_tensor(feature), known.get(name)) for name, feature in interface.inputs.items()),
        "outputs": tuple(_tensor(feature) for feature in interface.outputs.values()),
        "states": tuple(
            StateFeature(name=each.name, kind="state", shape=list(each.shape), dtype=_dtype(each))
            for each in interface.states.values()
        ),
    }


def _tensor(feature: Declared) -> TensorFeature:
    assert isinstance(feature, ArrayFeature), "an asset takes and gives arrays alone"
    return TensorFeature(name=feature.name, kind="tensor", shape=list(feature.shape), dtype=_dtype(feature))


class _Known(BaseModel):
    """What the metadata may say of an input, which anyone may have written; other keys are others' own."""

    model_config = ConfigDict(strict=True)

    shape: list[_Size] | None = None
    ranges: list[Annotated[list[_Bound], Field(min_length=2, max_length=2)]] | None = None
    enumerated_shapes: list[list[_Size]] | None = None
    color_layout: Literal["RGB", "BGR", "G", "G16"] | None = None

    def fits(self, rank: int) -> bool:
        """Whether all of it is of an array of this rank."""
        ranks = {len(each) for each in (self.shape, self.ranges, *(self.enumerated_shapes or ())) if each is not None}
        return ranks <= {rank} and (self.color_layout is None or rank == 4)


def _known(feature: TensorFeature, known: Mapping[str, object] | None) -> TensorFeature:
    """With what the metadata says, as far as that is of the form that `sealing` writes, and of this array's rank."""
    try:
        given = _Known.model_validate(known or {})
    except ValidationError:
        return feature
    if not given.fits(len(feature["shape"])):
        return feature
    whole: TensorFeature = {**feature, **given.model_dump(exclude_none=True)}  # type: ignore[typeddict-item]  # its keys
    return whole


def _dtype(feature: ArrayFeature) -> str:
    return _AS_NUMPY.get(feature.dtype, feature.dtype)


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
