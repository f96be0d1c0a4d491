"""What Apple's own loader of packages refuses is never an artifact: neither built, nor restored from the store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from builder.backends.coreml.mlpackage import write_package
from builder.backends.coreml.package_loader import why_refused
from builder.config.compose import compose
from builder.engine.pipeline import build
from builder.progress import Silent
from builder.store.objects import Objects

WEIGHTS = "Data/com.apple.CoreML/weights"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "weights").mkdir()
    write_package(tmp_path / "m.mlpackage", b"", tmp_path / "weights")
    return tmp_path / "m.mlpackage"


def test_a_package_opens_and_stays_as_it_is(package: Path) -> None:
    before = (package / "Manifest.json").read_bytes()
    assert why_refused(package) is None
    assert (package / "Manifest.json").read_bytes() == before


def test_what_the_manifest_names_must_be_there(package: Path) -> None:
    shutil.rmtree(package / WEIGHTS)
    assert "Item does not exist" in str(why_refused(package))


def test_a_manifest_must_be_one(package: Path) -> None:
    (package / "Manifest.json").write_text("{}")
    assert "fileFormatVersion" in str(why_refused(package))


def test_a_file_and_nothing_are_no_packages(package: Path) -> None:
    assert why_refused(package / "Manifest.json") == "it is not a folder"
    assert why_refused(package.parent / "absent") == "it is not a folder"
    assert not (package.parent / "absent").exists()


RECIPE = """
source: {kind: python, factory: "plus:make"}
input:
  x: {kind: tensor, shape: [1, 4]}
target: {name: ios16}
tracking: {kind: none}
checks:
  structure: {kind: structure}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe whose program has no weights: its folder of weights is empty."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/plus.yaml").write_text(RECIPE)
    (tmp_path / "plus.py").write_text(
        "import torch\n\nclass Plus(torch.nn.Module):\n    def forward(self, x):\n        return x + 1\n\n"
        "def make():\n    return Plus()\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def built(project: Path) -> Path:
    return build(compose(["recipe=plus"]), outputs=project / "outputs", progress=Silent()).artifact.path


def test_a_program_without_weights_is_restored_whole(project: Path) -> None:
    # given an artifact that was built, and is lost
    first = built(project)
    assert why_refused(first) is None
    assert list((first / WEIGHTS).iterdir()) == []
    shutil.rmtree(project / "outputs")
    # when it is built again, from the store
    again = built(project)
    # then Apple's loader opens it
    assert why_refused(again) is None


def test_what_is_restored_in_part_is_built_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a store that forgets a folder, as it once did
    built(project)
    shutil.rmtree(project / "outputs")
    restore = Objects.restore_folder

    def forgetful(self: Objects, digest: str, folder: Path) -> None:
        restore(self, digest, folder)
        if (folder / WEIGHTS).exists():
            shutil.rmtree(folder / WEIGHTS)

    monkeypatch.setattr(Objects, "restore_folder", forgetful)
    # when the artifact is wanted again
    again = built(project)
    # then it is the whole one, and the record says that it was not found
    assert why_refused(again) is None
    record = json.loads((again.parent / "build.json").read_text())
    assert record["artifact"]["digest"].startswith("sha256:")
