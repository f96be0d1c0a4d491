"""Builds from Python: the record, the artifact and the errors of the command line, and nothing printed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import builder
from builder.errors import CheckError, ConfigurationError, SourceError
from builder.util import apart


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one small recipe, `line`: y = 2 x + 1."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "nets_of_api", raising=False)
    (tmp_path / "nets_of_api.py").write_text(
        "import torch\n\n\nclass Line(torch.nn.Module):\n    def forward(self, x):\n        return 2 * x + 1\n"
    )
    recipe = {
        "schema": 1,
        "defaults": [{"precision": "fp32"}, {"target": "ios16"}, {"checks": "default"}, {"tracking": "none"}],
        "source": {"kind": "python", "factory": "nets_of_api:Line"},
        "input": {"x": {"kind": "tensor", "shape": [1, 4]}},
    }
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/line.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return tmp_path


def test_a_build_returns_its_record_and_an_artifact_that_runs(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # when a recipe is built with an override, and once more
    record = builder.build("line", "target=ios17")
    again = builder.build("line", "target=ios17")

    # then the record describes an artifact that computes y = 2 x + 1, from the store the second time, without a word
    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    (y,) = builder.load(record.artifact.path).predict({"x": x}).values()
    np.testing.assert_allclose(y, 2 * x + 1)
    assert (record.status, record.variant) == ("built", "target=ios17")
    assert record.artifact.path.is_relative_to(project / "outputs") or record.artifact.path.exists()
    assert all(stage.cached for stage in again.stages)
    assert again.artifact.digest == record.artifact.digest
    assert capsys.readouterr() == ("", "")


def test_a_plan_says_what_a_build_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given an empty store, then a build
    monkeypatch.setenv("BUILDER_CACHE", str(tmp_path / "cache"))
    before = builder.plan("line")
    builder.build("line")
    after = builder.plan("line")

    # then every stage was missing, and then none
    assert next(iter(before.missed)) == "load"
    assert (dict(after.missed), after.artifact) == ({}, Path("outputs/line/default/line.mlpackage"))


def test_a_broken_build_raises_with_its_record_unless_it_is_asked_for() -> None:
    # given a limit that nothing meets
    impossible = "checks.parity.snr_db={min: 1000}"

    # when it is built, then the error carries the record
    with pytest.raises(CheckError) as caught:
        builder.build("line", "precision=fp16", impossible)
    assert caught.value.record.status == "broken"

    # and where that is asked for, the record is the result
    record = builder.build("line", "precision=fp16", impossible, check=False)
    assert record.status == "broken"
    assert record.artifact.path.exists()


def test_mistakes_are_the_errors_of_the_command_line() -> None:
    with pytest.raises(ConfigurationError, match="targt"):
        builder.build("line", "targt=ios17")
    with pytest.raises(AttributeError, match="no attribute 'bild'"):
        _ = builder.bild  # type: ignore[attr-defined]


def test_code_that_ends_the_process_is_an_error_of_the_source(project: Path) -> None:
    (project / "nets_that_end.py").write_text("import os\n\n\ndef make():\n    os._exit(0)\n")
    with pytest.raises(SourceError, match=r"os\._exit\(0\)`\), while calling nets_that_end:make"):
        builder.build("line", "source.factory=nets_that_end:make")


def test_a_program_with_threads_builds_in_another_interpreter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a build by a fork of this process
    digest = builder.build("line").artifact.digest
    # when the same is built as in a program with threads, in an empty store
    monkeypatch.setenv("BUILDER_CACHE", str(Path.cwd() / "cache"))
    monkeypatch.setattr(apart, "_may_fork", lambda: False)
    record = builder.build("line", progress=True)
    # then the artifact is the same, and progress is shown here
    assert record.artifact.digest == digest
    assert not any(stage.cached for stage in record.stages)
    assert "convert" in capsys.readouterr().err


def test_progress_shows_the_stages_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    builder.build("line", progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "convert" in captured.err
