"""Jobs by submitit, with its executor for this machine; what Slurm would be asked is looked at, since none is here."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from builder.errors import UnfitEnvironmentError
from builder.jobs.jobs import Exit, Task
from builder.jobs.settings import SubmititSweep
from tests.unit.sweep.conftest import MakeJob

pytest.importorskip("submitit", reason="an optional extra")

from builder.jobs.on_slurm import SubmititLauncher, SubmittedJob

HERE = SubmititSweep(launcher="submitit", cluster="local", jobs=2)


def task(folder: Path, code: str) -> Task:
    return Task(
        command=(sys.executable, "-c", code),
        folder=str(folder),
        environment={"BUILDER_SWEEP_ID": "s1"},
        log=str(folder / "1.log"),
        out=str(folder / "1.out"),
    )


def wait(handle: SubmittedJob) -> Exit:
    deadline = time.monotonic() + 60
    while (ended := handle.ended()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return ended


def test_a_job_runs_elsewhere_and_tells_how_it_ended(tmp_path: Path, make_job: MakeJob) -> None:
    launcher = SubmititLauncher(HERE, folder=tmp_path / "submitit", jobs=8)
    assert launcher.limit == 2
    assert launcher.blocked_reason(make_job(1)) is None
    code = "import os, sys; print(os.environ['BUILDER_SWEEP_ID'], os.getppid()); sys.exit(5)"
    ended = wait(launcher.start(make_job(1), task(tmp_path, code)))
    assert ended.code == 5
    assert ended.peak_bytes
    sweep_id, parent = (tmp_path / "1.out").read_text().split()
    assert sweep_id == "s1"
    assert int(parent) != os.getpid()


def test_a_job_that_a_signal_ends_is_told_as_such(tmp_path: Path, make_job: MakeJob) -> None:
    launcher = SubmititLauncher(HERE, folder=tmp_path / "submitit", jobs=1)
    ended = wait(launcher.start(make_job(1), task(tmp_path, "import os; os.kill(os.getpid(), 9)")))
    assert ended.code == -9


def test_a_job_that_is_stopped_ends_with_its_process(tmp_path: Path, make_job: MakeJob) -> None:
    launcher = SubmititLauncher(HERE, folder=tmp_path / "submitit", jobs=1)
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    handle = launcher.start(make_job(1), task(tmp_path, code))
    out = tmp_path / "1.out"
    while not (out.exists() and out.read_text()):
        time.sleep(0.05)
    handle.stop()
    assert wait(handle).code == 130
    assert not Path(f"/proc/{int(out.read_text())}").exists()


def test_a_job_that_the_cluster_ended_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a job that left no result, as after a time limit
    import submitit

    class Lost:
        state = "TIMEOUT"
        paths = submitit.core.utils.JobPaths(tmp_path, "17")

        def done(self) -> bool:
            return True

        def result(self) -> Any:
            raise submitit.core.utils.UncompletedJobError("no output")

    ended = SubmittedJob(Lost()).ended()
    assert ended is not None
    assert ended.code < 0
    assert ended.summary.startswith("ended by the cluster as TIMEOUT (see ")


def test_without_slurm_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnfitEnvironmentError, match="no Slurm here"):
        SubmititLauncher(SubmititSweep(launcher="submitit"), folder=tmp_path / "submitit", jobs=1)


def test_what_slurm_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_job: MakeJob) -> None:
    # given an sbatch that keeps the script it is given
    script = tmp_path / "bin" / "sbatch"
    script.parent.mkdir()
    kept = tmp_path / "kept.sh"
    script.write_text(f'#!/bin/sh\ncat "$1" > {kept}\necho "Submitted batch job 17"\n')
    script.chmod(0o755)
    (tmp_path / "bin" / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    settings = SubmititSweep(
        launcher="submitit", minutes=30, cpus=2, job_memory=8 * 2**30, slurm={"partition": "cpu", "account": "vision"}
    )

    # when a job is submitted
    launcher = SubmititLauncher(settings, folder=tmp_path / "submitit", jobs=12)
    launcher.start(make_job(1), task(tmp_path, "pass"))

    # then sbatch was given the processors, memory, time and options of the settings
    lines = [line for line in kept.read_text().splitlines() if line.startswith("#SBATCH")]
    for wanted in ("cpus-per-task=2", "mem=8GB", "time=30", "partition=cpu", "account=vision", "job-name=builder"):
        assert f"#SBATCH --{wanted}" in lines
    assert launcher.limit == 12
