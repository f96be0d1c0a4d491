"""What a job says is understood as it is printed: the terminal's own lines are read back."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from builder.jobs.watch import STAGES, Watch, next_stage, reason, was_up_to_date
from builder.reports.terminal import Terminal


def test_the_stages_of_the_terminal_are_read_back(tmp_path: Path) -> None:
    # given what the terminal prints into a file for every stage, quick, slow and cached
    stream = io.StringIO()
    with Terminal(verbosity=1, stream=stream) as terminal:
        for stage, seconds in zip(STAGES, [0.04, 12.3, 3.0, 125.0, 99.96, 4000.0, 1.0], strict=True):
            terminal.begin(stage)
            terminal.detail("convert       1.2 s  is a detail, not a stage")
            terminal.end(stage, seconds, "what came out", cached=stage in ("load", "seal"))
        terminal.warn("mind this", code="B0001")

    # when a watch reads it, in two pieces that end inside a line
    log = tmp_path / "1.log"
    watch = Watch(log)
    assert watch.news().ended == ()
    text = stream.getvalue()
    log.write_text(text[:100])
    first = watch.news()
    log.write_text(text)
    second = watch.news()

    # then it knows all of them, once each
    assert (*first.ended, *second.ended) == STAGES
    assert (*first.warnings, *second.warnings) == ("[B0001] mind this",)
    assert watch.news().ended == ()


def test_stages_follow_each_other() -> None:
    assert [next_stage(stage) for stage in STAGES] == [*STAGES[1:], ""]


@pytest.mark.parametrize(
    ("log", "code", "why"),
    [
        ("  load   1 s\nerror[B0401]: no such operator\n  hint: try another\n", 4, "no such operator"),
        (
            "recipes/x.yaml:8:3: error[B0211]: seed: unknown key\n    8 | seeed\n\ncommand line: error[B0221]: no\n",
            2,
            "seed: unknown key (and 1 more)",
        ),
        ("Traceback:\n  File x\nValueError: 3\n\nthis is a bug of builder 1: please report\n", 1, "ValueError: 3"),
        ("Killed\n", 137, "Killed"),
        ("\n", 3, "ended with exit code 3 and said nothing"),
    ],
)
def test_the_reason_is_one_line(log: str, code: int, why: str) -> None:
    assert reason(log, code) == why


def test_an_answer_that_built_nothing_is_told_apart() -> None:
    assert was_up_to_date("up to date: x (default)\n")
    assert not was_up_to_date("  load   1 s  up to date weights\n")
