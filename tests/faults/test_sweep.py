"""Sweeps under fire: jobs that are killed or fail, a sweep that is killed and goes on later, Ctrl-C in the middle."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import RECIPE, Project

NET = """\
import os
import signal
import time

import torch


def make(width=600, then="go on"):
    if then == "be killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if then == "fail":
        raise ValueError("this net cannot be made")
    if then == "take long":
        time.sleep(120)
    return torch.nn.Sequential(torch.nn.Linear(8, width), torch.nn.ReLU(), torch.nn.Linear(width, 3))
"""


@pytest.fixture
def sweeps(make_project: Callable[[], Project]) -> Callable[[], Project]:
    """Make a project whose factory can be told to misbehave."""

    def make() -> Project:
        project = make_project()
        (project.folder / "net.py").write_text(NET)
        recipe = RECIPE.replace("seed: 1", 'seed: 1, arguments: {width: 600, then: "go on"}')
        (project.folder / "recipes/tiny.yaml").write_text(recipe)
        return project

    return make


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out.splitlines(), err


def table(project: Project) -> list[dict[str, str]]:
    """The rows of the newest sweep."""
    newest = max(project.folder.glob("outputs/sweeps/*/sweep.csv"), key=lambda path: path.stat().st_mtime_ns)
    return list(csv.DictReader(newest.read_text().splitlines()))


def record(artifact: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((artifact.parent / "build.json").read_text())
    return document


def runs(process: int) -> bool:
    """Whether a process still does anything; one that has ended may wait to be noticed."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(later for child in children for later in descendants(child))]


@pytest.mark.slow
def test_side_by_side_gives_what_one_after_the_other_gives(sweeps: Callable[[], Project]) -> None:
    # given the same sweep in two projects, each with a store of its own
    alone, together = sweeps(), sweeps()
    variants = ["precision=fp32,fp16", "compression.int8.weight_threshold=100,2000"]

    # when one runs one job at a time, and the other three
    first = ended(alone.start("-m", *variants, "sweep.jobs=1"))
    second = ended(together.start("-m", *variants, "sweep.jobs=3"))

    # then the same artifacts are on stdout in the same order, and their bytes are the same
    assert first[0] == 0, first[2]
    assert second[0] == 0, second[2]
    assert len(first[1]) == 4
    assert first[1] == second[1]
    digests = [[record(p.folder / line)["artifact"]["digest"] for line in first[1]] for p in (alone, together)]
    assert digests[0] == digests[1]
    assert [row["digest"] for row in table(together)] == digests[0]

    # and side by side too, what jobs share was computed once
    stages = [stage for line in second[1] for stage in record(together.folder / line)["stages"]]
    ran = [stage["name"] for stage in stages if not stage["cached"]]
    assert {name: ran.count(name) for name in ("load", "prepare", "capture", "convert")} == {
        "load": 1, "prepare": 1, "capture": 1, "convert": 2,
    }  # fmt: skip


@pytest.mark.slow
def test_a_job_that_is_killed_or_fails_does_not_end_the_others(sweeps: Callable[[], Project]) -> None:
    project = sweeps()
    code, out, err = ended(project.start("-m", 'source.arguments.then="be killed",fail,"go on"', "sweep.jobs=2"))
    assert [(row["status"], row["exit_code"]) for row in table(project)] == [
        ("killed", "1"),
        ("failed", "3"),
        ("built", "0"),
    ]
    assert (code, len(out)) == (1, 1)
    assert "ended by SIGKILL" in err
    assert "this net cannot be made" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_where_it_was(sweeps: Callable[[], Project]) -> None:
    # given a sweep that is killed when its first job has ended
    project = sweeps()
    arguments = ["-m", "compression.int8.weight_threshold=100,2000,3000", "sweep.jobs=1"]
    process = project.start(*arguments)
    wait_for(lambda: list(project.folder.glob("outputs/sweeps/*/sweep.csv")), process)
    wait_for(lambda: table(project)[0]["status"] == "built", process)
    process.kill()
    process.communicate()
    (killed,) = project.folder.glob("outputs/sweeps/*/sweep.csv")
    assert [row["status"] for row in csv.DictReader(killed.read_text().splitlines())][0::2] == ["built", "not started"]

    # when it is asked for again
    code, out, err = ended(project.start(*arguments))

    # then nothing that was done is done again
    assert code == 0, err
    assert len(out) == 3
    assert table(project)[0]["status"] == "up to date"
    stages = {stage["name"]: stage["cached"] for stage in record(project.folder / out[2])["stages"]}
    assert stages["load"]
    assert stages["convert"]
    assert not stages["compress"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_leaves_no_job_behind(sweeps: Callable[[], Project], number: int) -> None:
    # given a sweep with a job that takes long
    project = sweeps()
    process = project.start("-m", 'source.arguments.then="take long"', "seed=1,2,3", "sweep.jobs=1")
    wait_for(lambda: list(project.folder.glob("outputs/.building/tiny/*/build.log")), process)
    jobs = descendants(process.pid)
    assert jobs

    # when somebody presses Ctrl-C
    os.kill(process.pid, number)
    code, out, err = ended(process)

    # then job and sweep end, nothing half done is left, and the table says so
    assert (code, out) == (130, [])
    deadline = time.monotonic() + 2
    while left := [job for job in jobs if runs(job)]:
        assert time.monotonic() < deadline, left
    assert [row["status"] for row in table(project)] == ["interrupted", "not started", "not started"]
    assert not list(project.folder.glob("outputs/.building/tiny/*/build.log"))
    assert "Traceback" not in err
