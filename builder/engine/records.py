"""What the store keeps of each stage, and how it is read back into the types that stages pass on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from builder.artifacts import (
    CompressionEffect,
    FlexibleSize,
    LintFinding,
    PreparedModel,
    Preprocessing,
    SealedPackage,
    SkippedLayer,
    SubstitutionEffect,
    Suppression,
    UsedLowering,
)
from builder.backends.interface import Backend
from builder.engine.runner import Packed, Packing, Stage
from builder.store.digests import digest_of, digest_of_files
from builder.store.objects import CorruptError

_PLAIN = ("output_names", "labels", "normalization", "states", "flexible", "integer_outputs", "suppression")
"""What of a prepared model is plain and decides about the artifact."""


def prepared_record(prepared: PreparedModel) -> dict[str, Any]:
    """Everything plain in a prepared model: what `RestoredPreparedModel` reads."""
    return {
        "output_names": prepared.output_names,
        "labels": prepared.labels,
        "normalization": prepared.normalization,
        "substitutions": [asdict(effect) for effect in prepared.substitutions],
        "compression": [asdict(effect) for effect in prepared.compression],
        "skipped": [asdict(layer) for layer in prepared.skipped],
        "states": dict(prepared.states),
        "integer_outputs": sorted(prepared.integer_outputs),
        "suppression": None if prepared.suppression is None else asdict(prepared.suppression),
        "preprocessing": None if prepared.preprocessing is None else asdict(prepared.preprocessing),
        "flexible": [
            {str(dimension): asdict(size) for dimension, size in sizes.items()} for sizes in prepared.flexible
        ],
    }


class RestoredPreparedModel:
    """A PreparedModel from the store: what is plain is at hand, modules are made when somebody asks for one."""

    def __init__(self, record: Mapping[str, Any], remake: Callable[[], PreparedModel]) -> None:
        self.output_names = tuple(record["output_names"])
        self.labels = None if record["labels"] is None else tuple(record["labels"])
        self.normalization = record["normalization"]
        self.substitutions = effects(record)
        self.compression = compression(record)
        self.skipped = skipped(record)
        self.states = record["states"]
        self.integer_outputs = frozenset(record["integer_outputs"])
        stage = record["suppression"]
        self.suppression = None if stage is None else Suppression(**stage)
        published = record["preprocessing"]
        self.preprocessing = None if published is None else Preprocessing(**published)
        self.flexible = tuple(
            {int(dimension): FlexibleSize(**size) for dimension, size in sizes.items()} for sizes in record["flexible"]
        )
        self._remake = cache(remake)

    def __getattr__(self, name: str) -> Any:
        """Return what is not plain: `module`, `reference`, `uncompressed`."""
        return getattr(self._remake(), name)


def effects(record: Mapping[str, Any]) -> tuple[SubstitutionEffect, ...]:
    """The effects of substitutions that the prepare stage recorded."""
    return tuple(
        SubstitutionEffect(**{**entry, "replaced": tuple(entry["replaced"])}) for entry in record["substitutions"]
    )


def compression(record: Mapping[str, Any]) -> tuple[CompressionEffect, ...]:
    """The effects of compression steps that the prepare or the compress stage recorded."""
    return tuple(CompressionEffect(**{**entry, "changed": tuple(entry["changed"])}) for entry in record["compression"])


def detector_stage(prepared: Stage[PreparedModel]) -> tuple[Suppression, tuple[str, ...]] | None:
    """What stands behind a detector's program, and the labels of its classes."""
    stage = prepared.record["suppression"]
    return None if stage is None else (Suppression(**stage), tuple(prepared.record["labels"]))


def names_digest(prepared: Stage[PreparedModel]) -> str:
    """A digest of what is plain in a prepared model and decides about the artifact."""
    return digest_of([prepared.record[name] for name in _PLAIN])


def lowerings(record: Mapping[str, Any]) -> tuple[UsedLowering, ...]:
    """The lowerings of ours that the convert stage recorded as used."""
    return tuple(UsedLowering(**entry) for entry in record["lowerings"])


def skipped(record: Mapping[str, Any]) -> tuple[SkippedLayer, ...]:
    """The layers and weights that the prepare or the compress stage recorded as left alone."""
    return tuple(SkippedLayer(**entry) for entry in record["skipped"])


def findings(record: Mapping[str, Any]) -> tuple[LintFinding, ...]:
    """What the seal stage recorded that lint found."""
    return tuple(
        LintFinding(**{**entry, "examples": tuple(entry["examples"]), "sources": tuple(entry["sources"])})
        for entry in record["lint"]
    )


def sealed_package(stage: Stage[SealedPackage], path: Path) -> SealedPackage:
    """The description of a sealed artifact that lies, or will lie, at `path`."""
    record = stage.record
    return SealedPackage(
        path=path,
        format=record["format"],
        digest=stage.output,
        size_bytes=record["size_bytes"],
        semantic_digest=record["semantic_digest"],
    )


def restore_artifact(stage: Stage[SealedPackage], place: Path) -> None:
    """Write the artifact of a stored result; raises CorruptError where it is another one than the result says."""
    if "artifact/" in stage.action.objects:
        manifest = stage.stored("artifact/")
        files = {name: digest for name, digest in stage.objects.read_manifest(manifest).items() if digest}
        digest = digest_of_files(files) if files else ""
    else:
        manifest = digest = stage.stored("artifact")
    if digest != stage.output:
        raise CorruptError("the artifact is another one than the result says")
    if "artifact/" in stage.action.objects:
        stage.objects.restore_folder(manifest, place)
    else:
        stage.objects.restore_file(manifest, place)


def pack_model(backend: Backend, model: Any, record: Mapping[str, Any], packing: Packing) -> Packed:
    """Keep a model of a backend's beside its record."""
    manifest = backend.pack_model(model, packing.objects)
    return Packed(output=manifest, record=record, objects={"model/": manifest})


def unpack_model(backend: Backend, stage: Stage[Any]) -> Any:
    """Take a model of a backend's out of the store."""
    manifest = stage.stored("model/")
    if manifest != stage.output:
        raise CorruptError("the model is another one than the result says")
    return backend.unpack_model(manifest, stage.objects)
