"""The seal stage: the model on disk, the same to the byte wherever and whenever it is built, and its digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, MutableSequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from builder.artifacts.stages import CompressedModel, SealedPackage, Suppression
from builder.backends.coreml.mlpackage import WEIGHTS, link_folder, write_package
from builder.backends.coreml.multifunction import join_functions
from builder.backends.coreml.nms_pipeline import with_suppression
from builder.backends.coreml.package_loader import why_refused
from builder.backends.coreml.state_names import rename_state
from builder.backends.description import SEEDED_KEY, shown_description
from builder.errors import ConversionError
from builder.spec import BuildSpec
from builder.store.digests import digest_of_files, file_digest, files_below

if TYPE_CHECKING:
    from google.protobuf.message import Message

_VARYING_METADATA = (
    "com.github.apple.coremltools.conversion_date",
    "com.github.apple.coremltools.version",
    "com.github.apple.coremltools.source",
    "com.github.apple.coremltools.source_dialect",
)
"""Dates and builds of tools; they are in the build record instead."""

_NUMBERS = {1: "<i4", 2: "<i8", 3: "<u4", 4: "<u8", 5: "<f8", 6: "<f4", 7: "<u1", 8: "<i4"}
"""The dtype of each of protobuf's `FieldDescriptor.CPPTYPE_*` that is a number."""

_BUILD_INFO = "buildInfo"
"""The attribute of a MIL program that repeats them."""


def seal(
    compressed: Mapping[str, CompressedModel],
    spec: BuildSpec,
    destination: Path,
    *,
    seeded: bool,
    behind: tuple[Suppression, tuple[str, ...]] | None = None,
) -> SealedPackage:
    """Write the artifact to `destination`, which must not exist (`.mlpackage` or `.mlmodel`).

    `compressed` is by the name of the function; of an artifact without functions it is one model. `behind` makes a
    detector of it: non-maximum suppression for the classes of these labels, behind the program.
    """
    models = {name: each.model for name, each in compressed.items()}
    model = join_functions(models) if spec.functions else next(iter(models.values()))
    specification = model._spec if behind is None else with_suppression(without_tool_builds(model._spec), *behind)
    specification = _canonical(specification, spec, seeded=seeded)
    data = specification.SerializeToString(deterministic=True)
    destination.parent.mkdir(parents=True, exist_ok=True)
    if spec.format == "mlmodel":
        destination.write_bytes(data)
    else:
        weights = Path(model.weights_dir) if model.weights_dir else None
        write_package(destination, data, weights, place=link_folder)
        if (reason := why_refused(destination)) is not None:
            raise ConversionError(f"Apple's loader does not open the package that was written: {reason}", code="B0401")
    files = {name or destination.name: file_digest(file) for name, file in files_below(destination)}
    return SealedPackage(
        path=destination,
        format=spec.format,
        digest=digest_of_files(files),
        size_bytes=sum(file.stat().st_size for _, file in files_below(destination)),
        semantic_digest=semantic_digest(specification, files),
    )


def semantic_digest(specification: Message, files: Mapping[str, str]) -> str:
    """`sha256:` over the model's fields and weights, which stays when protobuf serialises differently.

    `files` are the digests of the artifact's files, by name.
    """
    digest = hashlib.sha256()
    tokens: list[bytes] = []
    _add_tokens(specification, tokens)
    digest.update(b"".join(tokens))
    for name, value in sorted(files.items()):
        if name.startswith(f"Data/{WEIGHTS}/"):
            digest.update(_token(name, value.removeprefix("sha256:")))
    return f"sha256:{digest.hexdigest()}"


def without_tool_builds(model_specification: Message) -> Message:
    """A copy without dates and builds of tools."""
    specification = type(model_specification)()
    specification.CopyFrom(model_specification)
    for key in _VARYING_METADATA:
        specification.description.metadata.userDefined.pop(key, None)
    if specification.WhichOneof("Type") == "mlProgram":
        specification.mlProgram.attributes.pop(_BUILD_INFO, None)
    return specification


def _canonical(model_specification: Message, spec: BuildSpec, *, seeded: bool) -> Message:
    """A copy without dates and tool builds, with the recipe's metadata, or where it gives none a finished model's."""
    specification = without_tool_builds(model_specification)
    metadata = specification.description.metadata
    seeded = seeded or SEEDED_KEY in metadata.userDefined
    metadata.author = spec.metadata.author or metadata.author
    metadata.license = spec.metadata.license or metadata.license
    metadata.versionString = spec.metadata.version or metadata.versionString
    if spec.metadata.description or not metadata.shortDescription:
        metadata.shortDescription = shown_description(spec.metadata.description, seeded=seeded)
    for key, value in spec.metadata.user.items():
        metadata.userDefined[key] = value
    if seeded:
        metadata.userDefined[SEEDED_KEY] = "true"
    for name, state in spec.state.items():
        rename_state(specification, buffer=state.buffer, name=name)
    return specification


def _token(kind: str, value: object) -> bytes:
    data = value if isinstance(value, bytes) else str(value).encode()
    return f"{kind} {len(data)} ".encode() + data


def _add_tokens(message: Message, tokens: list[bytes]) -> None:
    """Add every field that is set, by number; maps by key; a nested message between brackets."""
    for descriptor, value in sorted(message.ListFields(), key=lambda entry: entry[0].number):
        tokens.append(_token("field", descriptor.number))
        entry = descriptor.message_type
        if entry is not None and entry.GetOptions().map_entry:
            nested = entry.fields_by_name["value"].message_type is not None
            for key in sorted(value):
                tokens.append(_token("key", key))
                _add_value(value[key], tokens, nested=nested)
        elif isinstance(value, MutableSequence) and descriptor.cpp_type in _NUMBERS:
            tokens.append(_token("numbers", np.asarray(value, dtype=_NUMBERS[descriptor.cpp_type]).tobytes()))
        elif isinstance(value, MutableSequence):
            tokens.append(_token("count", len(value)))
            for item in value:
                _add_value(item, tokens, nested=entry is not None)
        else:
            _add_value(value, tokens, nested=entry is not None)


def _add_value(value: object, tokens: list[bytes], *, nested: bool) -> None:
    if not nested:
        tokens.append(_token(type(value).__name__, repr(value) if isinstance(value, float) else value))
        return
    tokens.append(b"(")
    _add_tokens(value, tokens)
    tokens.append(b")")
