"""The seal: the same bytes in another process, folder and hash seed, and nothing of the machine in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import coreml_runtime as runtime
from builder.backends.coreai import engine
from builder.backends.coreai.conversion import Declared, convert
from builder.backends.coreai.describe import describe
from builder.backends.coreai.sealing import Metadata, _check_free_of_paths, machine_paths, seal
from builder.errors import ConversionError
from tests.unit.backends.coreai.conftest import export, snr

METADATA = Metadata(author="A", license="MIT", description="D", own={"labels": ["b", "a"], "version": "1"})

AGAIN = """
import sys
from pathlib import Path
from tests.unit.backends.coreai.conftest import Small, export
from tests.unit.backends.coreai.test_seal import METADATA
from builder.backends.coreai.conversion import Declared, Halves, convert
from builder.backends.coreai.sealing import seal
import torch
torch.manual_seed(0)
model, x = Small().eval(), torch.rand(1, 4, 8, 8)
model.norm.running_mean.uniform_(-0.5, 0.5)
model.norm.running_var.uniform_(0.1, 3)
folder = Path(sys.argv[1])
declared = Declared(inputs={"image": "float32"}, outputs={"logits": "float32"})
convert(export(model, (x,)), folder / "c.aimodel", declared, Halves())
seal({"": folder / "c.aimodel"}, folder / "s.aimodel", METADATA)
"""


@pytest.fixture(scope="module")
def sealed(converted: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sealed") / "m.aimodel"
    seal({"": converted(True)[0]}, path, METADATA)
    return path


def test_another_process_makes_the_same_bytes(sealed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "another folder"
    folder.mkdir()
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-W", "ignore", "-c", AGAIN, str(folder)], check=True, env=environment)
    made = {file.name: file.read_bytes() for file in (folder / "s.aimodel").iterdir()}
    assert made == {file.name: file.read_bytes() for file in sealed.iterdir()}
    assert sorted(made) == ["main.hash", "main.mlirb", "metadata.json"]


def test_the_seal_changes_no_prediction(small: Any, converted: Any, sealed: Path) -> None:
    sample = [{"image": small[1].numpy()}]
    before, after = (engine.predict(asset, sample)[0][0]["logits"] for asset in (converted(True)[0], sealed))
    assert (before == after).all()


def test_metadata_is_the_recipes_without_a_date(sealed: Path) -> None:
    content = json.loads((sealed / "metadata.json").read_text())
    assert "creationDate" not in content
    assert content["author"] == "A"
    assert content["creatorDefinedMetadata"] == {"labels": ["b", "a"], "version": "1"}
    assert describe(sealed).metadata == content


def test_nothing_of_the_machine_is_in_the_file(sealed: Path) -> None:
    data = (sealed / "main.mlirb").read_bytes()
    assert not [place for place in machine_paths() if place in data]
    assert b".py" not in data


def test_a_program_that_names_a_file_is_refused(tmp_path: Path) -> None:
    for text in (b"..../home/someone/model/net.py....", bytes(Path.cwd())):
        (tmp_path / "main.mlirb").write_bytes(b"\0" * 9 + text)
        with pytest.raises(ConversionError, match="names a file of this machine"):
            _check_free_of_paths(tmp_path / "main.mlirb")


def test_functions_share_their_weights(small: Any, converted: Any, sealed: Path, tmp_path: Path) -> None:
    both = tmp_path / "two.aimodel"
    seal({"fast": converted(True)[0], "exact": converted(False)[0], "again": converted(True)[0]}, both, METADATA)
    described = describe(both)
    assert list(described.functions) == ["fast", "exact", "again"]
    halves = [weight for weight in described.weights if weight.bytes == 32 * 512 * 2]
    assert len(halves) == 1
    sample = [{"image": small[1].numpy()}]
    exact = engine.predict(both, sample, function="exact")[0][0]["logits"]
    assert snr(exact, small[2].numpy()) > 110


def test_masks_of_bools_are_stored_whole(tmp_path: Path) -> None:
    # given a mask that is too large to stand in the program: a byte for each bool
    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.arange(1024) % 3 == 0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(self.mask, x, -x)

    x = torch.arange(1.0, 1025.0)
    declared = Declared(inputs={"x": "float32"}, outputs={"y": None})
    # when
    convert(export(Masked(), (x,)), tmp_path / "c.aimodel", declared, None)
    seal({"": tmp_path / "c.aimodel"}, tmp_path / "s.aimodel", METADATA)
    # then both engines select as torch does
    wanted = Masked()(x)
    assert (runtime.load(tmp_path / "s.aimodel").predict({"x": x.numpy()})["y"] == wanted.numpy()).all()
    (found,), _ = engine.predict(tmp_path / "s.aimodel", [{"x": x.numpy()}])
    assert (found["y"] == wanted.numpy()).all()


def test_functions_with_composites_are_the_same_bytes(small: Any, tmp_path: Path) -> None:
    # given two conversions of a network with composites, whose private functions end in random letters
    declared = Declared(inputs={"image": "float32"}, outputs={"logits": "float32"})
    found = set()
    for number in range(2):
        asset = tmp_path / f"{number}.aimodel"
        convert(export(small[0], (small[1],)), asset, declared, None)
        # when both functions of an artifact are made of each
        seal({"one": asset, "two": asset}, tmp_path / f"sealed_{number}.aimodel", Metadata())
        found.add((tmp_path / f"sealed_{number}.aimodel" / "main.mlirb").read_bytes())
    # then the artifacts are the same
    assert len(found) == 1
