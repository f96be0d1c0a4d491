"""Pipes, devices, links to devices and files of a wrong size are refused before they are read: no verb waits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from builder import noop
from builder.analysis.init import inspect_source
from builder.cli.main import run
from builder.config.documents import read_document
from builder.config.folders import head_comment
from builder.errors import SourceError
from builder.store.digests import file_digest
from builder.util.reading import MOST_OF_RECIPE, UnfitFileError, open_regular, require_contained, require_regular
from coreml_runtime import InputError
from coreml_runtime.features import ArrayFeature, ImageFeature
from coreml_runtime.files import read_input
from coreml_runtime.pictures import decoded, require_sane

UNFIT: dict[str, Callable[[Path], Any]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
}
unfit = pytest.mark.parametrize("make", UNFIT.values(), ids=UNFIT)


def _large(path: Path) -> None:
    path.write_bytes(b"# " + b"x" * MOST_OF_RECIPE)


@pytest.mark.parametrize("make", [*UNFIT.values(), _large], ids=[*UNFIT, "large"])
@pytest.mark.parametrize("inherited", [False, True])
def test_a_recipe_is_a_small_regular_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], Any],
    *,
    inherited: bool,
) -> None:
    (tmp_path / "recipes").mkdir()
    make(tmp_path / "recipes" / "hostile.yaml")
    (tmp_path / "recipes" / "child.yaml").write_text("defaults: [hostile, _self_]\n")
    monkeypatch.chdir(tmp_path)
    for arguments in (["recipe=" + ("child" if inherited else "hostile")], ["show", "recipe=hostile"]):
        assert run(arguments) == 2
        error = capsys.readouterr().err
        assert "hostile.yaml:1:1" in error
        assert "Traceback" not in error
    assert run(["list"]) == 0
    assert "hostile\t(cannot be read: it is " in capsys.readouterr().out


def test_a_recipe_of_the_largest_size_is_read(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_bytes(b"# Large.\n" + b"a: 1\n" + b"#" * (MOST_OF_RECIPE - 14))
    assert file.stat().st_size == MOST_OF_RECIPE
    assert read_document(file).data == {"a": 1}
    assert head_comment(file) == "Large."


@unfit
@pytest.mark.parametrize("suffix", [".npy", ".png"])
def test_an_input_of_predict_is_a_regular_file(tmp_path: Path, make: Callable[[Path], Any], suffix: str) -> None:
    file = tmp_path / f"x{suffix}"
    make(file)
    array = ArrayFeature(name="x", dtype="fp32", shape=(1, 3, 4, 4))
    feature: Any = array if suffix == ".npy" else ImageFeature(name="x", color="RGB", width=4, height=4)
    with pytest.raises(InputError, match="input x: "):
        read_input(feature, None, "x", str(file))
    with pytest.raises(InputError, match="input x: "):
        read_input(array, "RGB", "x", str(file))


def test_an_array_that_claims_more_than_any_memory(tmp_path: Path) -> None:
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000000)}".ljust(117) + "\n"
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    with pytest.raises(InputError, match="input x: "):
        read_input(ArrayFeature(name="x", dtype="fp32", shape=()), None, "x", str(tmp_path / "x.npy"))


def test_an_input_is_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", np.zeros(100))
    monkeypatch.setattr("coreml_runtime.files._MOST_OF_INPUT", 800)
    with pytest.raises(InputError, match="it has 928 bytes"):
        read_input(ArrayFeature(name="x", dtype="fp32", shape=()), None, "x", str(tmp_path / "x.npy"))
    large: Any = SimpleNamespace(shape=(1 << 20, 1 << 20))
    with pytest.raises(ValueError, match="declares an input of shape"):
        require_sane(large.shape)
    with pytest.raises(InputError, match="declares an input of shape"):
        decoded(ArrayFeature(name="x", dtype="fp32", shape=(1, 3, 1 << 20, 1 << 20)), "RGB", str(tmp_path / "x.png"))


def test_a_file_of_which_next_to_nothing_is_stored_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "hollow").open("wb") as stream:
        stream.truncate(1 << 40)
    for read in (open_regular, file_digest, require_regular):
        with pytest.raises(UnfitFileError, match="of which"):
            read(tmp_path / "hollow")


def test_an_array_is_read_as_before(tmp_path: Path) -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "x.npy", value)
    assert np.array_equal(
        read_input(ArrayFeature(name="x", dtype="fp32", shape=()), None, "x", str(tmp_path / "x.npy")), value
    )


@pytest.mark.parametrize("make", [UNFIT["pipe"], UNFIT["device"]], ids=["pipe", "device"])
@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".pt", ".jit", ".safetensors", ".mlmodel"])
def test_init_looks_at_regular_files(tmp_path: Path, make: Callable[[Path], Any], suffix: str) -> None:
    make(tmp_path / f"m{suffix}")
    with pytest.raises(SourceError, match="is not a regular file"):
        inspect_source(str(tmp_path / f"m{suffix}"), tmp_path)


@pytest.mark.parametrize("make", [UNFIT["pipe"], UNFIT["device"]], ids=["pipe", "device"])
@pytest.mark.parametrize("place", ["Manifest.json", "Data/model.mlmodel", "Data/weights/weight.bin", "Data/extra"])
def test_init_looks_at_packages_of_regular_files(tmp_path: Path, make: Callable[[Path], Any], place: str) -> None:
    package = tmp_path / "m.mlpackage"
    (package / place).parent.mkdir(parents=True)
    make(package / place)
    with pytest.raises(SourceError, match="is not a regular file"):
        inspect_source(str(package), tmp_path)


LOOKS = (["lint"], ["predict"], ["package"], ["export", "--to", "pt2"], ["init"], ["diff"])


@pytest.mark.parametrize(
    "make",
    [UNFIT["pipe"], UNFIT["device"], lambda path: path.symlink_to("/etc/hostname")],
    ids=["pipe", "device", "link out"],
)
@pytest.mark.parametrize("place", ["Manifest.json", "Data/model.mlmodel", "Data/extra"])
@pytest.mark.parametrize("verb", LOOKS, ids=" ".join)
def test_every_verb_looks_at_artifacts_of_their_own_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], Any],
    place: str,
    verb: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    package = Path("m.mlpackage")
    (package / place).parent.mkdir(parents=True)
    make(package / place)
    Path("other.mlmodel").write_bytes(b"")
    more = ["other.mlmodel"] if verb == ["diff"] else []
    assert run([verb[0], str(package), *more, *verb[1:]]) == 3
    error = capsys.readouterr().err
    assert place in error
    assert "is not a regular file" in error or "is a link that leads out of the artifact" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.mlpackage", "other.mlmodel"]


@pytest.mark.parametrize("name", ["/dev/zero", "../../other.mlmodel", "a/../../b"])
@pytest.mark.parametrize("verb", LOOKS, ids=" ".join)
def test_a_manifest_names_files_of_its_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, verb: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.mlpackage/Data").mkdir(parents=True)
    entries = {"1": {"path": name, "name": "model.mlmodel", "author": "com.apple.CoreML"}}
    Path("m.mlpackage/Manifest.json").write_text(
        json.dumps({"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": "1"})
    )
    Path("other.mlmodel").write_bytes(b"")
    more = ["other.mlmodel"] if verb == ["diff"] else []
    assert run([verb[0], "m.mlpackage", *more, *verb[1:]]) == 3
    assert "outside of the artifact" in capsys.readouterr().err


def test_links_inside_of_an_artifact_are_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "loop").symlink_to("loop")
    require_contained(tmp_path)


def test_a_link_to_a_folder_of_the_artifact_is_none_of_it(tmp_path: Path) -> None:
    """A copy that follows it goes on until the system gives up."""
    (tmp_path / "m.aimodel/Data").mkdir(parents=True)
    (tmp_path / "m.aimodel/Data/more").symlink_to(tmp_path / "m.aimodel/Data")
    with pytest.raises(UnfitFileError, match="is a link to a folder"):
        require_contained(tmp_path / "m.aimodel")


def test_folders_that_lead_to_themselves_end(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    require_regular(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnfitFileError, match="is not a regular file"):
        require_regular(tmp_path)


@unfit
def test_the_shortcut_of_an_unchanged_build_does_not_wait(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(tmp_path / "recipe.yaml")
    with pytest.raises(OSError, match=r"recipe\.yaml|Is a directory"):
        noop.digest(str(tmp_path / "recipe.yaml"))
