"""The seal stage for `.aimodel`: the artifact on disk with its metadata, and its digests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.artifacts.stages import CompressedModel, SealedPackage
from builder.backends.coreai import sealing
from builder.backends.coreai.archive import Asset
from builder.backends.coreai.describe import read_metadata
from builder.backends.description import SEEDED_KEY, shown_description
from builder.spec import BuildSpec
from builder.store.digests import digest_of, digest_of_files, file_digest


def seal(
    compressed: Mapping[str, CompressedModel], spec: BuildSpec, destination: Path, *, seeded: bool
) -> SealedPackage:
    """Write the artifact to `destination`, which must not exist."""
    models = {name: each.model for name, each in compressed.items()}
    destination.parent.mkdir(parents=True, exist_ok=True)
    metadata = _metadata(spec, models, seeded=seeded)
    sealing.seal({name: model.path for name, model in models.items()}, destination, metadata)
    files = {file.name: file_digest(file) for file in sorted(destination.iterdir())}
    return SealedPackage(
        path=destination,
        format=spec.format,
        digest=digest_of_files(files),
        size_bytes=sum(file.stat().st_size for file in destination.iterdir()),
        semantic_digest=digest_of({"program": files[sealing.PROGRAM], "metadata": read_metadata(destination)}),
    )


def _metadata(spec: BuildSpec, models: Mapping[str, Asset], *, seeded: bool) -> sealing.Metadata:
    """What the recipe says, and what an app must know of inputs and labels."""
    own: dict[str, Any] = dict(next(iter(models.values())).known)
    if spec.functions:
        own["functions"] = {name: {"inputs": model.known["inputs"]} for name, model in models.items()}
        own.pop("inputs")
    own["user"] = dict(spec.metadata.user)
    if spec.metadata.version:
        own["version"] = spec.metadata.version
    if seeded:
        own["user"][SEEDED_KEY] = "true"
    return sealing.Metadata(
        author=spec.metadata.author or "",
        license=spec.metadata.license or "",
        description=shown_description(spec.metadata.description, seeded=seeded),
        own=own,
    )
