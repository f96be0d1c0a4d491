"""`plan` names the input that changed, `diff` what differs between two builds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import builder
from builder.__main__ import main

RECIPE = """\
schema: 1
defaults: [{precision: fp32}, {target: ios16}, {checks: none}, {tracking: none}]
source: {kind: python, factory: "twolayers:make", seed: 1}
input:
  x: {kind: tensor, shape: [1, 8]}
metadata: {author: me}
"""
NET = (
    "import torch\n\n\ndef make():\n    return torch.nn.Sequential(torch.nn.Linear(8, 600), torch.nn.Linear(600, 3))\n"
)


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A project whose default variant is built."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUILDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delitem(sys.modules, "twolayers", raising=False)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/tiny.yaml").write_text(RECIPE)
    (tmp_path / "twolayers.py").write_text(NET)
    assert main(["recipe=tiny", "-q"]) == 0
    capsys.readouterr()
    return tmp_path


def plan(*arguments: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["plan", "recipe=tiny", *arguments]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_plan_of_a_current_build(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = plan(capsys=capsys)
    assert [line.split()[1] for line in lines[:-1]] == ["hit"] * 7
    assert lines[-1] == "up to date"


def test_plan_names_what_changed_with_old_and_new_value(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = plan("precision=fp16", "metadata.author=you", capsys=capsys)
    assert [line.split()[:2] for line in lines[:3]] == [["load", "hit"], ["prepare", "hit"], ["capture", "hit"]]
    assert lines[3] == "convert miss spec precision.kind: fp32 -> fp16"
    assert lines[4] == "compress after only if a stage before it gives something new"
    assert lines[5] == "seal miss spec metadata.author: me -> you"


def test_plan_names_the_file_of_user_code(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (built / "twolayers.py").write_text(f"# more\n{NET}")
    assert plan(capsys=capsys)[0].startswith("load miss code source.factory twolayers.py: sha256:")


def test_plan_of_what_was_never_built(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given an empty store, and a process of its own, to see what it imports
    code = (
        "import sys; from builder.__main__ import main; main(['plan', 'recipe=tiny']);"
        "print(sorted({'torch', 'coremltools', 'mlflow', 'numpy'} & set(sys.modules)))"
    )
    environment = {
        **os.environ,
        "BUILDER_CACHE": str(built / "empty"),
        "PYTHONPATH": str(Path(builder.__file__).parents[1]),
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["load", "miss", "never", "built", "before"]
    assert lines[-1] == "[]"
    assert not (built / "empty/store/actions").exists()


@pytest.mark.slow
def test_diff_tells_settings_operators_and_weights(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given a second build with another precision and other weights
    assert main(["recipe=tiny", "precision=fp16", "source.seed=2", "-q"]) == 0
    other = Path(capsys.readouterr().out.strip()).parent
    # when
    assert main(["diff", "outputs/tiny/default", str(other)]) == 0
    # then
    out = capsys.readouterr().out
    assert "setting precision.kind: fp32 -> fp16" in out
    assert "setting source.seed: 1 -> 2" in out
    assert "weight" in out
    # and a build does not differ from itself
    assert main(["diff", "outputs/tiny/default", "outputs/tiny/default/tiny.mlpackage"]) == 0
    assert capsys.readouterr().out == ""


def test_diff_of_nothing_is_explained(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "outputs/tiny/default", "nowhere"]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    assert main(["diff", "outputs/tiny/default", "recipes"]) == 2
    assert main(["diff", "outputs/tiny/default", "outputs/tiny"]) == 2
    assert "builds lie in outputs/tiny/default" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [b"", b"{", b"{}", b"null", b'{"fileFormatVersion": "1.0.0"}'])
def test_a_damaged_package_is_refused_by_name(built: Path, capsys: pytest.CaptureFixture[str], damage: bytes) -> None:
    # given a package whose list of files is damaged
    broken = built / "broken.mlpackage"
    shutil.copytree(built / "outputs/tiny/default/tiny.mlpackage", broken)
    (broken / "Manifest.json").write_bytes(damage)
    # when, then
    for verb in (
        ["diff", "outputs/tiny/default", "broken.mlpackage"],
        ["package", "broken.mlpackage", "--output", "app"],
    ):
        assert main(verb) == 3, verb
        error = capsys.readouterr().err
        assert "B0302" in error
        assert "Traceback" not in error


def test_a_model_without_content_is_refused_by_name(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = built / "broken.mlpackage"
    shutil.copytree(built / "outputs/tiny/default/tiny.mlpackage", broken)
    (model,) = broken.rglob("model.mlmodel")
    model.write_bytes(b"")
    assert main(["package", "broken.mlpackage", "--output", "app"]) == 3
    assert "it has no content" in capsys.readouterr().err
