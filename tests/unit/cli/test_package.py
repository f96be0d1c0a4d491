"""`package`: what it takes, where it writes, and its exit codes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run

DIGITS = Path(__file__).parents[3] / "recipes" / "files" / "digits.mlpackage"


def test_an_artifact_becomes_a_package(run: Run, tmp_path: Path) -> None:
    code, out, err = run("package", str(DIGITS))
    assert (code, out.strip()) == (0, "outputs/packages/Digits")
    assert "DigitsClassifier" in err
    assert (tmp_path / out.strip() / "Sources" / "Digits" / "DigitsClassifier.swift").is_file()
    assert run("package", str(DIGITS), "-q")[0] == 0  # again


def test_the_folder_of_a_build_is_its_artifact(run: Run, tmp_path: Path) -> None:
    shutil.copytree(DIGITS, tmp_path / "built" / "digits.mlpackage")
    assert run("package", "built", "--output", "made")[:2] == (0, "made\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "needs a recipe or an artifact"),
        (("nothing.mlpackage",), 2, "there is no model"),
        (("empty",), 2, "neither an artifact nor a folder with one"),
        (("recipe=nothing",), 2, "nothing"),
        ((str(DIGITS), "--both"), 2, "--both builds a recipe twice"),
        ((str(DIGITS), str(DIGITS)), 2, "same framework"),
        ((str(DIGITS), "--output", "mine"), 2, "did not write it"),
        (("release",), 6, "SHA256SUMS was changed"),
        (("recipe=digits_aimodel", "--both"), 2, "this one is for Core AI"),
    ],
)
def test_mistakes(run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    for name in ("empty", "mine", "release"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    (tmp_path / "release" / "SHA256SUMS").write_text("wrong\n")
    found, out, err = run("package", *arguments)
    assert (found, out) == (code, "")
    assert said in err


def test_a_damaged_artifact_is_named(run: Run, tmp_path: Path) -> None:
    shutil.copytree(DIGITS, tmp_path / "bad.mlpackage")
    weights = next((tmp_path / "bad.mlpackage").rglob("weight.bin"))
    weights.write_bytes(weights.read_bytes()[:100])
    code, _, err = run("package", "bad.mlpackage")
    assert code == 3
    assert "bad.mlpackage" in err
    assert not (tmp_path / "outputs" / "packages" / "Bad").exists()
