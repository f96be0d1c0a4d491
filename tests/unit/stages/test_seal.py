"""The seal stage: canonical files, metadata and digests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builder.artifacts.stages import CompressedModel, SealedPackage
from builder.backends.coreml.importing import import_coremltools
from builder.backends.coreml.seal import seal, semantic_digest
from builder.backends.description import SEEDED_KEY
from builder.spec import BuildSpec
from builder.store.digests import artifact_digest
from tests.unit.stages.small_builds import Convolutions, convert_module, make_spec

NEURAL_NETWORK: dict[str, Any] = {"format": "mlmodel", "target": {"name": "ios14"}}


def _seal(spec: BuildSpec, path: Path, *, seeded: bool = False) -> SealedPackage:
    converted = convert_module(Convolutions(), spec)
    return seal({"": CompressedModel(model=converted.model)}, spec, path, seeded=seeded)


@pytest.mark.parametrize(("parts", "name"), [({}, "m.mlpackage"), (NEURAL_NETWORK, "m.mlmodel")])
def test_two_builds_are_the_same_to_the_byte(parts: dict[str, Any], name: str, tmp_path: Path) -> None:
    # given one spec, when it is built twice
    first, second = (_seal(make_spec(**parts), tmp_path / folder / name) for folder in "ab")
    # then digest, meaning and size are the same, and digests depend on the content
    assert (first.digest, first.semantic_digest, first.size_bytes) == (
        second.digest,
        second.semantic_digest,
        second.size_bytes,
    )
    other = _seal(make_spec(**parts, metadata={"author": "Ada"}), tmp_path / "c" / name)
    assert other.digest != first.digest
    assert other.semantic_digest != first.semantic_digest


def test_loading_a_package_leaves_its_files_as_they_are(tmp_path: Path) -> None:
    # given a sealed package
    sealed = _seal(make_spec(), tmp_path / "m.mlpackage")
    # when coremltools loads it, which rewrites a manifest of another format
    model = import_coremltools().models.MLModel(str(sealed.path), skip_model_load=True)
    # then it is valid and unchanged
    assert model.get_spec().description.input[0].name == "image"
    assert artifact_digest(sealed.path) == sealed.digest
    manifest = (sealed.path / "Manifest.json").read_text()
    assert manifest == json.dumps(json.loads(manifest), indent=4, sort_keys=True) + "\n"


@pytest.mark.parametrize(("parts", "name"), [({}, "m.mlpackage"), (NEURAL_NETWORK, "m.mlmodel")])
def test_metadata_is_the_recipes_and_nothing_else(parts: dict[str, Any], name: str, tmp_path: Path) -> None:
    # given a recipe with metadata, and weights that fell back to seeded ones
    given = {"author": "Ada", "license": "MIT", "version": "2", "description": "Sees", "user": {"org.example": "1"}}
    sealed = _seal(make_spec(**parts, metadata=given), tmp_path / name, seeded=True)
    # when the artifact is read
    specification = import_coremltools().utils.load_spec(str(sealed.path))
    metadata = specification.description.metadata
    # then it says so, without dates and tool versions
    assert (metadata.author, metadata.license, metadata.versionString) == ("Ada", "MIT", "2")
    assert metadata.shortDescription == "UNTRAINED, seeded weights. Sees"
    assert dict(metadata.userDefined) == {"org.example": "1", SEEDED_KEY: "true"}
    assert b"conversion_date" not in specification.SerializeToString()


def test_the_model_that_is_sealed_stays_as_it_is(tmp_path: Path) -> None:
    # given a converted model
    spec = make_spec(metadata={"author": "Ada"})
    model = convert_module(Convolutions(), spec).model
    before = model._spec.SerializeToString(deterministic=True)
    # when it is sealed, and the sealed file is removed
    sealed = seal({"": CompressedModel(model=model)}, spec, tmp_path / "m.mlpackage", seeded=True)
    (sealed.path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").unlink()
    # then the model has not changed and still has its weights
    assert model._spec.SerializeToString(deterministic=True) == before
    assert (Path(model.weights_dir) / "weight.bin").stat().st_size > 0


def test_the_semantic_digest_sees_every_kind_of_field() -> None:
    from coremltools.proto import Model_pb2

    def digest(change: Any = None) -> str:
        model = Model_pb2.Model(specificationVersion=4)
        layer = model.neuralNetwork.layers.add(name="l", input=["x"], output=["y"])
        layer.innerProduct.weights.floatValue.extend([1.0, 2.0])
        model.description.metadata.userDefined["a"] = "1"
        if change:
            change(model)
        return semantic_digest(model, {})

    # given changes to a number, a repeated number, a string, a map and a nested message
    changes = [
        lambda m: setattr(m, "specificationVersion", 5),
        lambda m: m.neuralNetwork.layers[0].innerProduct.weights.floatValue.append(3.0),
        lambda m: setattr(m.neuralNetwork.layers[0], "name", "k"),
        lambda m: m.description.metadata.userDefined.update({"b": "1"}),
        lambda m: m.neuralNetwork.layers[0].innerProduct.SetInParent() or m.neuralNetwork.layers.add(),
    ]
    # when each is digested, then all differ, and the same model gives the same digest
    assert len({digest(), *(digest(change) for change in changes)}) == len(changes) + 1
    assert digest() == digest()
