"""The build verb: the path alone on stdout, the summary on stderr, a missed check as exit 5."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.artifacts.record import BuildRecord
from builder.artifacts.stages import BuildRequest
from builder.errors import SourceError
from tests.unit.cli.conftest import Run


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch, record: BuildRecord) -> list[BuildRequest]:
    """Answer builds with the unit tests' record; returns what was asked for."""
    asked: list[BuildRequest] = []

    def build(request: BuildRequest, **settings: Any) -> BuildRecord:
        asked.append(request)
        if request.spec.seed == 13:
            missed = replace(record.checks[0], passed=False, reason="3 dB is less than 30 dB")
            return replace(record, status="broken", checks=(missed,))
        return record

    monkeypatch.setattr("builder.engine.pipeline.build", build)
    return asked


def test_stdout_is_the_path_alone(run: Run, requests: list[BuildRequest], record: BuildRecord, tmp_path: Path) -> None:
    code, out, err = run("recipe=x", "precision=fp32")
    assert code == 0
    assert out == f"{record.artifact.path.relative_to(tmp_path)}\n"
    assert "fp16" in err
    assert requests[0].spec.precision.kind == "fp32"
    assert requests[0].variant == "precision=fp32"


def test_the_word_build_may_be_written(run: Run, requests: list[BuildRequest]) -> None:
    assert run("build", "recipe=x")[0] == 0
    assert requests[0].recipe == "x"


@pytest.mark.parametrize("arguments", [("-v", "recipe=x"), ("recipe=x", "-v"), ("recipe=x", "-v", "precision=fp32")])
def test_options_may_stand_anywhere(arguments: tuple[str, ...], run: Run, requests: list[BuildRequest]) -> None:
    assert run(*arguments)[0] == 0


def test_a_missed_check_shows_its_summary_and_exits_5(run: Run, requests: list[BuildRequest]) -> None:
    code, out, err = run("recipe=x", "seed=13")
    assert (code, out) == (5, "")
    assert "3 dB is less than 30 dB" in err


@pytest.mark.parametrize(
    ("arguments", "key", "place", "line"),
    [
        (("recipe=x",), "source.name", "recipes/x.yaml:4:3", "  name: mobilenet_v2"),
        (("recipe=x",), "source", "recipes/x.yaml:3:3", "  kind: torchvision"),
        (("recipe=x",), "input.image.shape.2", "recipes/x.yaml:8:", "    shape: [1, 3, 32, 32]"),
        (("recipe=x", "source.name=resnet18"), "source.name", "command line", "source.name=resnet18"),
    ],
)
def test_a_failure_names_the_place_of_its_setting(
    arguments: tuple[str, ...], key: str, place: str, line: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> BuildRecord:
        raise SourceError("it is not there", code="B0301", hint="look for it", key=key)

    monkeypatch.setattr("builder.engine.pipeline.build", fail)
    code, out, err = run(*arguments)
    assert (code, out) == (3, "")
    assert err.startswith(place)
    assert f"error[B0301]: {key}: it is not there" in err
    assert line in err
    assert "hint: look for it" in err


def test_a_place_is_sought_in_what_the_user_wrote(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: Any, **__: Any) -> BuildRecord:
        raise SourceError("it is not there", code="B0301", key="source")

    monkeypatch.setattr("builder.engine.pipeline.build", fail)
    (tmp_path / "recipes" / "y.yaml").write_text("defaults:\n  - x\n  - source: python\nsource:\n  factory: a:b\n")
    assert run("recipe=y")[2].startswith("recipes/y.yaml:5:3: error[B0301]: source: it is not there")


def test_the_place_of_an_option_is_where_it_was_chosen(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: Any, **__: Any) -> BuildRecord:
        raise SourceError("it matches nothing", code="B0264", key="substitutions.relu6_to_relu")

    monkeypatch.setattr("builder.engine.pipeline.build", fail)
    (tmp_path / "recipes" / "y.yaml").write_text("defaults:\n  - x\n  - substitutions: relu6_to_relu\n")
    assert run("recipe=y")[2].startswith("recipes/y.yaml:3:")


def test_a_failure_without_a_setting_names_no_place(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> BuildRecord:
        raise SourceError("no network", code="B0306")

    monkeypatch.setattr("builder.engine.pipeline.build", fail)
    assert run("recipe=x") == (3, "", "error[B0306]: no network\n")


def test_sys_exit_below_is_no_success(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(*_: Any, **__: Any) -> BuildRecord:
        raise SystemExit(0)

    monkeypatch.setattr("builder.engine.pipeline.build", leave)
    code, out, _ = run("recipe=x")
    assert (code, out) == (3, "")


@pytest.mark.parametrize("outputs", ["file", "file/below", "link", "link/below", ""])
def test_an_impossible_outputs_folder_is_refused(
    outputs: str, run: Run, requests: list[BuildRequest], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    code, out, err = run("recipe=x", "--outputs", outputs)
    assert (code, out, requests) == (2, "", [])
    assert err.startswith("error[B0227]: --outputs ")


def test_too_little_memory_is_no_bug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> BuildRecord:
        raise MemoryError

    monkeypatch.setattr("builder.engine.pipeline.build", fail)
    code, out, err = run("recipe=x")
    assert (code, out) == (7, "")
    assert "memory" in err


def test_termination_is_an_interruption(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(*_: Any, **__: Any) -> BuildRecord:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("the signal was ignored")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("builder.engine.pipeline.build", wait)
    try:
        code, out, err = run("recipe=x")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (code, out) == (130, "")
    assert "interrupted" in err
