"""A Core AI program on its way: on disk as long as somebody holds it, and in the store."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path

from builder.backends.coreai import sealing
from builder.store.objects import Objects


class Asset:
    """An `.aimodel` on its way, which lies on disk as long as this object lives."""

    def __init__(self, path: Path, folder: Path, known: Mapping[str, object]) -> None:
        self.path = path
        self.known = known
        """What the seal stage says of it: labels, inputs and outputs."""
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


class Between:
    """What a step but the last made, for the measure stage."""

    def __init__(self, asset: Asset) -> None:
        self._asset = asset
        self.path = asset.path


def pack_model(model: Asset, objects: Objects) -> str:
    """Store an asset's program and what is known of it; the digest of the manifest."""
    files = {sealing.PROGRAM: objects.put_file(model.path / sealing.PROGRAM)}
    files["known"] = objects.put_bytes(json.dumps(model.known, sort_keys=True).encode())
    return objects.put_manifest(files)


def unpack_model(manifest: str, objects: Objects) -> Asset:
    """A stored asset."""
    files = objects.read_manifest(manifest)
    folder = Path(tempfile.mkdtemp(prefix="builder-coreai-"))
    asset = Asset(folder / "model.aimodel", folder, json.loads(objects.read_bytes(files["known"])))
    asset.path.mkdir()
    objects.restore_file(files[sealing.PROGRAM], asset.path / sealing.PROGRAM)
    (asset.path / sealing.METADATA).write_text('{"assetVersion": "2.0"}\n')
    return asset
