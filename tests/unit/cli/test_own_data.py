"""A recipe with data of its own: what a change of it runs again, what the record says of it, and how it fails."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from builder.__main__ import main
from coreml_runtime import PredictionError

RECIPE = """\
schema: 1
defaults: [{precision: fp32}, {target: ios16}, {checks: none}, {tracking: none}]
source: {kind: python, factory: "colours:make", seed: 1}
input:
  image: {kind: image, shape: [1, 3, 8, 8], scale: 0.00392156862745098}
classifier:
  labels: [red, green, blue]
data:
  holdout:
    kind: folder
    folder: pictures
    labels: folders
  other:
    kind: folder
    folder: unused
checks:
  accuracy:
    data: holdout
    accuracy: {min: 0.9}
"""
NET = """\
import torch


class Mean(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(9.0))

    def forward(self, x):
        return x.mean((2, 3)) * self.scale


def make():
    return Mean()


def turned(model):
    class Turned(torch.nn.Module):
        def forward(self, x):
            y = x.mean((2, 3)) * 9.0
            return torch.cat([y[:, :1] * 0.1, y[:, 1:]], 1)

    return Turned()
"""
LABELS = ("red", "green", "blue")
LONG_AGO = 1_700_000_000


def _save(path: Path, channel: int, seed: int = 0, size: int = 8) -> None:
    levels = np.random.default_rng(seed).integers(0, 100, (size, size, 3), dtype=np.uint8)
    levels[:, :, channel] += 150
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe that names pictures by colours, with six pictures, in a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUILDER_CACHE", str(tmp_path / "cache"))
    for name in ("colours", "my_data"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/tiny.yaml").write_text(RECIPE)
    (tmp_path / "colours.py").write_text(NET)
    for channel, label in enumerate(LABELS):
        for index in range(2):
            _save(tmp_path / "pictures" / label / f"{index}.png", channel, seed=index)
    _save(tmp_path / "unused/x.png", 0)
    return tmp_path


def _build(project: Path, *arguments: str) -> dict[str, Any]:
    assert main(["recipe=tiny", "-q", *arguments]) == 0
    document: dict[str, Any] = json.loads((project / "outputs/tiny/default/build.json").read_text())
    return document


def _ran(document: dict[str, Any]) -> list[str]:
    return [stage["name"] for stage in document["stages"] if not stage["cached"]]


@pytest.mark.slow
def test_a_changed_picture_runs_the_checks_again_and_nothing_else(project: Path) -> None:
    # given a build with labelled pictures
    first = _build(project)
    (check,) = first["checks"]
    assert check["values"]["accuracy"] == 1.0
    assert check["data"]["kind"] == "folder"
    assert check["data"]["samples"] == check["samples"] == 6

    # when equal files are touched, and pictures change that no check uses, then nothing runs
    for path in project.glob("pictures/*/*.png"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    _save(project / "unused/y.png", 1)
    assert _build(project)["started"] == first["started"]

    # when a picture changes, is added, or gets another label, then the checks run, and they alone
    changes = [
        lambda: _save(project / "pictures/red/0.png", 0, seed=7),
        lambda: _save(project / "pictures/red/2.png", 0, seed=8),
        lambda: (project / "pictures/red/2.png").rename(project / "pictures/red/3.png"),
    ]
    digests = {check["data"]["digest"]}
    for change in changes:
        change()
        document = _build(project)
        assert _ran(document) == ["verify"]
        digests.add(document["checks"][0]["data"]["digest"])
        assert document["artifact"]["digest"] == first["artifact"]["digest"]
    assert len(digests) == 4


def test_a_wrong_label_misses_the_limit_and_the_artifact_is_broken(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "pictures/red/0.png").rename(project / "pictures/green/wrong.png")
    assert main(["recipe=tiny", "-q"]) == 5
    assert "accuracy is 0.8333, and the limit is at least 0.9" in " ".join(capsys.readouterr().err.split())
    assert (project / "outputs/broken/tiny/default/tiny.mlpackage").exists()


@pytest.mark.parametrize(
    ("change", "place", "said"),
    [
        (lambda p: _save(p / "pictures/red/0.png", 0, size=9), ":11:5", "has 9 x 9 pixels, and the input takes 8 x 8"),
        (lambda p: (p / "pictures/red/0.png").write_bytes(b"GIF89a"), ":11:5", "pictures/red/0.png is "),
        (lambda p: _save(p / "pictures/grue/0.png", 0), "", "label grue, which the model lacks"),
        (lambda p: _save(p / "pictures/loose.png", 0), ":12:5", "loose.png lies in no sub-folder"),
    ],
)
def test_pictures_that_are_wrong_end_the_build_at_the_line_that_names_them(
    change: Any, place: str, said: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(project)
    assert main(["recipe=tiny", "-q"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert f"recipes/tiny.yaml{place}" in err
    assert not (project / "outputs/tiny").exists()


@pytest.mark.slow
def test_data_in_place_of_a_name_and_from_a_users_function_counts_with_its_code_and_files(project: Path) -> None:
    (project / "my_data.py").write_text(
        "import numpy as np\nfrom PIL import Image\n\n\ndef make(levels):\n"
        "    return [({'image': Image.fromarray(picture)}, 0) for picture in np.load(levels)]\n"
    )
    levels = np.zeros((2, 8, 8, 3), np.uint8)
    levels[..., 0] = 255
    np.save(project / "levels.npy", levels)
    data = "checks.accuracy.data={kind: python, factory: 'my_data:make', files: {levels: levels.npy}}"

    first = _build(project, data)
    assert first["checks"][0]["values"]["accuracy"] == 1.0
    assert first["checks"][0]["data"]["kind"] == "python"
    levels[..., 1] = 100
    np.save(project / "levels.npy", levels)
    assert _ran(_build(project, data)) == ["verify"]
    (project / "my_data.py").write_text(f"# more\n{(project / 'my_data.py').read_text()}")
    assert _ran(_build(project, data)) == ["verify"]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (["accuracy={min: 0.9}"], ["accuracy is 0.6667, and the limit is at least 0.9"]),
        (["drop={max: 0.01}"], ["drop is 0.3333, and the limit is at most 0.01"]),
        (
            ["accuracy={min: 0.9}", "drop={max: 0.01}"],
            ["accuracy is 0.6667, and the limit is at least 0.9", "drop is 0.3333, and the limit is at most 0.01"],
        ),
        (["accuracy={min: 0.5}", "drop={max: 0.01}"], ["drop is 0.3333, and the limit is at most 0.01"]),
        (["top1_agreement={min: 1}"], ["top1_agreement is 0.6667, and the limit is at least 1"]),
    ],
)
def test_thresholds_and_differences_alike_are_enforced(
    limits: list[str], said: list[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a substitution that makes the artifact worse than the model: a third of its answers are wrong
    recipe = RECIPE.replace("    accuracy: {min: 0.9}\n", "")
    worse = "substitutions:\n  turn: {kind: rewrite, function: 'colours:turned'}\n"
    (project / "recipes/tiny.yaml").write_text(recipe + worse)
    arguments = [f"checks.accuracy.{limit}" for limit in limits]

    # when it is built, then every limit that is missed is named, and the artifact is broken
    assert main(["recipe=tiny", "-q", *arguments]) == 5
    error = " ".join(capsys.readouterr().err.split())
    assert all(line in error for line in said)
    assert (project / "outputs/broken/tiny/default/tiny.mlpackage").exists()
    assert not (project / "outputs/tiny/default").exists()
    document = json.loads((project / "outputs/broken/tiny/default/build.json").read_text())
    (check,) = document["checks"]
    assert (check["passed"], check["values"]["accuracy"], check["values"]["drop"]) == (False, 4 / 6, 2 / 6)


def _said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def _refuses(self: Any, inputs: Any, **options: Any) -> Any:
    raise PredictionError("operator `gather` (y): index 7 is outside of 3")


def test_an_artifact_that_cannot_be_executed_is_a_failed_check(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given an artifact on which the runtime fails half-way
    monkeypatch.setattr("coreml_runtime.model.Model.predict", _refuses)
    # when, then
    assert main(["recipe=tiny", "-q"]) == 5
    assert "accuracy (runtime): the artifact cannot be executed: operator `gather`" in _said(capsys)
    assert (project / "outputs/broken/tiny/default/tiny.mlpackage").exists()
    assert (project / "outputs/broken/tiny/default/report.html").exists()
