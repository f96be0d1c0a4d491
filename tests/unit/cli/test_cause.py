"""A build that misses a limit says which operator adds most of the error, and what to change; jobs of sweeps do not."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from builder.__main__ import main
from builder.artifacts.checks import CheckReport
from builder.artifacts.record import BuildRecord
from builder.cli.cause import report_cause
from tests import warm

Told = Callable[[], str]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe whose third layer leaves the range of half precision."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "planted", raising=False)
    monkeypatch.setattr(sys, "executable", warm.python())
    shutil.copy(Path(__file__).parents[1] / "debugging/planted.py", tmp_path)
    recipe = {
        "schema": 1,
        "defaults": [{"precision": "fp16"}, {"target": "ios16"}, {"checks": "default"}, {"tracking": "none"}],
        "source": {"kind": "python", "factory": "planted:overflow", "seed": 2},
        "input": {"x": {"kind": "tensor", "shape": [1, 3, 16, 16]}},
    }
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/planted.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))


def test_a_missed_limit_names_the_operator_and_the_change(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # when the build misses its limit
    assert main(["recipe=planted"]) == 5
    # then, between summary and error, the planted layer and a precision that keeps it in float32 are named
    said = capsys.readouterr().err
    told = said[said.index("tried, and all checks pass") : said.index("error[B0501]: ")]
    assert "most of the error comes from" in told
    assert "of module 2" in told
    assert "on samples that missed a limit" in told
    # and what is shown was tried, and is what the recipe needs
    assert told.startswith("tried, and all checks pass: everything in float32\n  -> precision:\n")
    last = told[told.rindex("-> ") - 2 :].splitlines()
    pasted = "\n".join(line[5:] for line in last if line[2:5] in ("-> ", "   "))
    recipe = yaml.safe_load(Path("recipes/planted.yaml").read_text())
    recipe["precision"] = yaml.safe_load(pasted)["precision"]
    recipe["defaults"] = [each for each in recipe["defaults"] if "precision" not in each]
    Path("recipes/mended.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    assert main(["recipe=mended", "-q"]) == 0

    # and one job of many leaves that to whoever asks
    monkeypatch.setenv("BUILDER_SWEEP_ID", "sweep")
    assert main(["recipe=planted"]) == 5
    assert "most of the error" not in capsys.readouterr().err


def test_a_search_for_the_cause_ends_in_time(
    make_record: Callable[..., BuildRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    missed = CheckReport(
        name="parity", kind="parity", engine="runtime", passed=False, values={}, limits={}, reason="too low"
    )
    report_cause(make_record(checks=(missed,)), ["recipe=planted"], seconds=0.01)
    assert "no change that helps was found in 0 s; `debug` looks as long as it takes" in capsys.readouterr().err
