"""Models of coremltools as the store keeps them: without dates, and read back the same."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from builder.backends.coreml.importing import import_coremltools
from builder.backends.coreml.mlpackage import link_folder, write_package
from builder.backends.coreml.seal import without_tool_builds
from builder.store.objects import CorruptError, Objects

if TYPE_CHECKING:
    from coremltools.models import MLModel

_SPECIFICATION, _WEIGHTS = "model", "weights/"


def pack_model(model: MLModel, objects: Objects) -> str:
    """Store a model of coremltools without dates; return the digest of its manifest."""
    specification = without_tool_builds(model._spec)
    files = {_SPECIFICATION: objects.put_bytes(specification.SerializeToString(deterministic=True))}
    weights = Path(model.weights_dir) if model.weights_dir else None
    for file in sorted(weights.iterdir()) if weights is not None and weights.is_dir() else ():
        files[f"{_WEIGHTS}{file.name}"] = objects.put_file(file)
    return objects.put_manifest(files)


def unpack_model(manifest: str, objects: Objects) -> MLModel:
    """Return a stored model; its files live as long as it does. Raises CorruptError."""
    models = import_coremltools().models
    from google.protobuf.message import DecodeError

    files = objects.read_manifest(manifest)
    if _SPECIFICATION not in files:
        raise CorruptError(f"{manifest} is not the manifest of a model")
    data = objects.read_bytes(files[_SPECIFICATION])
    weights = {name.removeprefix(_WEIGHTS): digest for name, digest in files.items() if name.startswith(_WEIGHTS)}
    folder = Path(tempfile.mkdtemp(prefix="builder-stored-"))
    try:
        if not weights:
            specification = import_coremltools().proto.Model_pb2.Model()
            specification.ParseFromString(data)
            if specification.WhichOneof("Type") != "mlProgram":
                shutil.rmtree(folder)
                return models.MLModel(specification, skip_model_load=True)
        for name, digest in weights.items():
            objects.restore_file(digest, folder / "weights" / name)
        (folder / "weights").mkdir(exist_ok=True)
        package = folder / "model.mlpackage"
        write_package(package, data, folder / "weights", place=link_folder)
        model = models.MLModel(str(package), skip_model_load=True)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, ValueError | RuntimeError | DecodeError):  # as coremltools refuses what is not a model
            raise CorruptError(f"{manifest} is not a model: {error}") from error
        raise
    weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    return model
