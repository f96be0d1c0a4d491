"""What differs between two artifacts in terms of the model: operators, weights, metadata, inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from builder.backends import backend_of_file
from builder.backends.description import ArtifactDescription
from builder.store.digests import file_digest, files_below
from coreml_runtime.package import Package, open_package, resolve

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from builder.util.reading import JsonObject

_SPECIFIED = (".mlpackage", ".mlmodel")
"""The artifacts that are compared operator by operator, by the specification that both are written in."""

_BLOB_DTYPES = {1: "<f2", 2: "<f4", 3: "u1", 4: "i1"}
"""`MILBlob/Blob/StorageFormat.hpp`, BlobDataType: those whose values can be subtracted."""


def differences(one: Path, other: Path) -> list[str]:
    """One line for each operator, weight, piece of metadata or feature that differs, weights first, largest first."""
    if any(path.suffix not in _SPECIFIED for path in (one, other)):
        return list(_of_descriptions(one, other)) or list(_of_files(one, other))
    first, second = open_package(one), open_package(other)
    found = [
        *_weights(first, second),
        *_operators(_operations(first.specification), _operations(second.specification)),
        *_description(first.specification, second.specification),
    ]
    return found or list(_rest(first, second))


def _by_name(features: Iterable[JsonObject]) -> dict[str, object]:
    return {feature["name"]: dict(feature) for feature in features}


_SAID: tuple[tuple[str, Callable[[ArtifactDescription], JsonObject]], ...] = (
    ("weight", lambda described: {weight.name: weight.bytes for weight in described.weights}),
    ("operators", lambda described: described.op_counts),
    ("metadata", lambda described: {**described.shown, **described.metadata}),
    ("input", lambda described: _by_name(described.inputs)),
    ("output", lambda described: _by_name(described.outputs)),
    ("state", lambda described: _by_name(described.states)),
    ("labels", lambda described: {"": described.labels}),
)
"""What is compared of two descriptions, by name."""


def _of_descriptions(one: Path, other: Path) -> Iterator[str]:
    """What both artifacts say of themselves, for formats without Core ML's specification and between two formats."""
    mine, theirs = (backend_of_file(path).describe(path) for path in (one, other))
    for what, of in _SAID:
        a, b = of(mine), of(theirs)
        for name in sorted(a.keys() | b.keys()):
            if a.get(name) != b.get(name):
                yield f"{what} {name}".strip() + f": {a.get(name, '(none)')} -> {b.get(name, '(none)')}"


def _of_files(one: Path, other: Path) -> Iterator[str]:
    """The files that differ, where the artifacts say the same of themselves."""
    mine, theirs = (dict(files_below(path)) for path in (one, other))
    for name in sorted(mine.keys() | theirs.keys()):
        if name not in mine or name not in theirs or file_digest(mine[name]) != file_digest(theirs[name]):
            yield f"file {name or one.name} differs"


def _weights(one: Package, other: Package) -> Iterator[str]:
    """Weights in blob files that both have and whose content differs, by the name of their operator."""
    mine, theirs = _blobs(one), _blobs(other)
    found = []
    for name in mine.keys() & theirs.keys():
        (kind, a), (other_kind, b) = mine[name], theirs[name]
        if (kind, a) == (other_kind, b):
            continue
        if len(a) != len(b) or kind != other_kind:
            found.append((len(a), f"weight {name}: {len(a)} and {len(b)} bytes"))
            continue
        bytes_changed = int((np.frombuffer(a, np.uint8) != np.frombuffer(b, np.uint8)).sum())
        line = f"weight {name}: {bytes_changed} of {len(a)} bytes differ"
        if kind in _BLOB_DTYPES:
            gap = np.abs(np.frombuffer(a, _BLOB_DTYPES[kind]).astype(float) - np.frombuffer(b, _BLOB_DTYPES[kind]))
            line += f", by up to {np.nanmax(gap):.3g}"
        found.append((bytes_changed, line))
    yield from (line for _, line in sorted(found, key=lambda entry: (-entry[0], entry[1])))


def _blobs(package: Package) -> dict[str, tuple[int, bytes]]:
    """Kind and bytes of every weight in a blob file, by operator (and argument, where that is not `val`)."""
    files: dict[Path, bytes] = {}
    found = {}
    for operator, message in _operations(package.specification).items():
        for argument, value in getattr(message, "attributes", {}).items():
            if value.WhichOneof("value") != "blobFileValue":
                continue
            file = resolve(package, value.blobFileValue.fileName)
            content = files.setdefault(file, file.read_bytes())
            # The record of 64 bytes: sentinel, kind (both of 4 bytes), size and offset of the data (both of 8).
            start = int(value.blobFileValue.offset)
            kind = int.from_bytes(content[start + 4 : start + 8], "little")
            size = int.from_bytes(content[start + 8 : start + 16], "little")
            offset = int.from_bytes(content[start + 16 : start + 24], "little")
            name = operator if argument == "val" else f"{operator}.{argument}"
            found[name] = (kind, content[offset : offset + size])
    return found


def _operations(specification: Message) -> dict[str, object]:
    """Every operator of a program, or layer of a network, by its name; blocks inside operators included."""
    kind = specification.WhichOneof("Type")
    if kind == "pipeline":
        stages = enumerate(specification.pipeline.models)
        return {f"stage {i} {name}": op for i, stage in stages for name, op in _operations(stage).items()}
    if kind == "mlProgram":
        found: dict[str, object] = {}
        for function_name, function in sorted(specification.mlProgram.functions.items()):
            for block in function.block_specializations.values():
                prefix = "" if function_name == "main" else f"{function_name}."
                found |= dict(_in_block(block, prefix))
        return found
    model = getattr(specification, kind)
    return {layer.name: layer for layer in getattr(model, "layers", [])}


def _in_block(block: Message, prefix: str) -> Iterator[tuple[str, object]]:
    for operation in block.operations:
        name = f"{prefix}{operation.outputs[0].name if operation.outputs else operation.type}"
        yield name, operation
        for index, inner in enumerate(operation.blocks):
            yield from _in_block(inner, f"{name}.{index}.")


def _operators(mine: Mapping[str, object], theirs: Mapping[str, object]) -> Iterator[str]:
    for name in sorted(mine.keys() - theirs.keys()):
        yield f"operator {name} ({_type(mine[name])}) is only in the first"
    for name in sorted(theirs.keys() - mine.keys()):
        yield f"operator {name} ({_type(theirs[name])}) is only in the second"
    for name in (name for name in mine if name in theirs):
        one, other = mine[name], theirs[name]
        if _type(one) != _type(other):
            yield f"operator {name}: {_type(one)} and {_type(other)}"
        elif places := list(_places(one, other, "")):
            yield f"operator {name} ({_type(one)}): {', '.join(places[:3])} differ{'s' if len(places) == 1 else ''}"


def _type(message: Message) -> str:
    return str(message.type) if hasattr(message, "type") else str(message.WhichOneof("layer"))


def _description(one: Message, other: Message) -> Iterator[str]:
    for name in ("author", "license", "versionString", "shortDescription"):
        a, b = getattr(one.description.metadata, name), getattr(other.description.metadata, name)
        if a != b:
            yield f"metadata {name}: {a!r} and {b!r}"
    a, b = dict(one.description.metadata.userDefined), dict(other.description.metadata.userDefined)
    for key in sorted(a.keys() | b.keys()):
        if a.get(key) != b.get(key):
            yield f"metadata {key}: {a.get(key)!r} and {b.get(key)!r}"
    for kind in ("input", "output", "state"):
        mine = {feature.name: feature for feature in getattr(one.description, kind)}
        theirs = {feature.name: feature for feature in getattr(other.description, kind)}
        for name in sorted(mine.keys() | theirs.keys()):
            if mine.get(name) != theirs.get(name):
                yield f"{kind} {name} differs"


def _rest(one: Package, other: Package) -> Iterator[str]:
    """What is left when nothing that has a name differs: fields of the file, and files of the package."""
    for place in list(_places(one.specification, other.specification, ""))[:5]:
        yield f"specification: {place} differs"
    yield from _of_files(one.path, other.path)


def _places(one: Message, other: Message, path: str) -> Iterator[str]:
    """The paths of the fields in which two messages of one type differ."""
    if one == other:
        return
    mine = {field.name: (field, value) for field, value in one.ListFields()}
    theirs = {field.name: (field, value) for field, value in other.ListFields()}
    for name in [*mine, *(name for name in theirs if name not in mine)]:
        place = f"{path}.{name}" if path else name
        if name not in mine or name not in theirs:
            yield place
            continue
        field, a = mine[name]
        b = theirs[name][1]
        if a == b:
            continue
        nested = field.message_type is not None and hasattr(a, "ListFields")
        if nested:
            yield from _places(a, b, place)
        else:
            yield place
