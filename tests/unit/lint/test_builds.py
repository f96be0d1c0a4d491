"""What the lint finds is in `build.json` and the report; accepting it changes no artifact and runs no stage again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builder.__main__ import main

RECIPE = """\
# The digits' network in float32, which the lint is about.
defaults: [resnet18, checks: none, tracking: none]
"""


def document() -> dict[str, Any]:
    (file,) = Path("outputs/x").glob("*/build.json")
    return json.loads(file.read_text())


def test_findings_are_recorded_and_accepted_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a build in float32
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    Path("recipes/x.yaml").write_text(RECIPE)
    assert main(["recipe=x", "precision=fp32"]) == 0
    first = document()
    (found,) = [entry for entry in first["lint"] if entry["rule"] == "float32"]
    assert found["ignored"] is None
    # when the recipe accepts it
    Path("recipes/x.yaml").write_text(RECIPE + "lint:\n  ignore:\n    float32: accuracy first\n")
    capsys.readouterr()
    assert main(["recipe=x", "precision=fp32"]) == 0
    # then the record and the page say so, of the same artifact from the same stages
    second = document()
    (accepted,) = [entry for entry in second["lint"] if entry["rule"] == "float32"]
    assert accepted["ignored"] == "accuracy first"
    assert second["artifact"]["digest"] == first["artifact"]["digest"]
    assert all(stage["cached"] for stage in second["stages"])
    (page,) = Path("outputs/x").glob("*/report.html")
    assert "accepted: accuracy first" in page.read_text()


def test_lint_is_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    package = Path(__file__).parents[3] / "recipes" / "files" / "digits.mlpackage"
    assert main(["lint", str(package)]) == 0
    screen = capsys.readouterr().out
    assert screen.startswith("float32 (high, ")
    assert "source: " in screen


def test_a_model_that_is_not_there_is_a_mistake() -> None:
    assert main(["lint", "nothing.mlpackage"]) == 2
