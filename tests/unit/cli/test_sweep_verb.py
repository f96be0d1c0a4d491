"""A sweep runs every job in a process of its own, goes on after failures, and exits with the first one's code."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Run


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Answer child processes with exit codes by precision; returns the command lines that were run."""

    def answer(**codes: int) -> list[list[str]]:
        commands: list[list[str]] = []

        def run_child(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
            commands.append(command)
            precision = next(word for word in command if word.startswith("precision=")).partition("=")[2]
            code = codes[precision]
            out = f"noise\noutputs/x/{precision}.mlpackage\n" if code == 0 else ""
            return subprocess.CompletedProcess(command, code, stdout=out)

        monkeypatch.setattr("builder.cli.sweep.subprocess.run", run_child)
        return commands

    return answer


def test_all_artifacts_are_printed(run: Run, children: Callable[..., list[list[str]]]) -> None:
    # given jobs that all succeed
    commands = children(fp32=0, fp16=0)

    # when they are swept, quietly
    code, out, err = run("-m", "recipe=x", "precision=fp32,fp16", "-q", "--outputs", "there")

    # then the artifacts are on stdout, one a line, and each job had the same options
    assert (code, out) == (0, "outputs/x/fp32.mlpackage\noutputs/x/fp16.mlpackage\n")
    assert "2 of 2 built" in err
    assert commands[0][1:] == ["-m", "builder", "recipe=x", "precision=fp32", "--outputs", "there", "-q"]


def test_the_exit_code_is_the_first_failure_and_the_others_are_built(
    run: Run, children: Callable[..., list[list[str]]]
) -> None:
    # given a crash in the first job (ended by a signal) and a missed check in the second
    children(fp32=-9, mixed=5, fp16=0)

    # when they are swept
    code, out, err = run("-m", "recipe=x", "precision=fp32,mixed,fp16")

    # then the rest is built, and the code is the first failure's
    assert code == 1
    assert out == "outputs/x/fp16.mlpackage\n"
    assert "1 of 3 built" in err


def test_a_job_that_cannot_work_fails_alone(run: Run, children: Callable[..., list[list[str]]]) -> None:
    # given a sweep in which one target is too old for the format
    commands = children(fp16=0)

    # when it runs
    code, out, err = run("-m", "recipe=x", "precision=fp16", "target=ios14,ios15")

    # then that job is explained without a process, and the other is built
    assert code == 2
    assert len(commands) == 1
    assert out == "outputs/x/fp16.mlpackage\n"
    assert "needs ios15 or later" in err


def test_nothing_is_built_where_every_job_is_wrong(
    run: Run, children: Callable[..., list[list[str]]], tmp_path: Path
) -> None:
    commands = children()
    code, out, _ = run("-m", "recipe=x", "target=ios13,ios14")
    assert (code, out, commands) == (2, "", [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipes"]
