"""A job's process: what it says goes to files, a signal is told from an exit code, and a group of its own is killed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from builder.jobs.jobs import Task
from builder.jobs.process import Process, run_task


def python(folder: Path, code: str) -> Task:
    return Task(
        command=(sys.executable, "-c", code),
        folder=str(folder),
        environment={"BUILDER_SWEEP_ID": "s1"},
        log=str(folder / "1.log"),
        out=str(folder / "1.out"),
    )


def test_streams_environment_and_code(tmp_path: Path) -> None:
    ended = run_task(
        python(tmp_path, "import os, sys; print(os.environ['BUILDER_SWEEP_ID']); sys.exit('said on stderr')")
    )
    assert ended.code == 1
    assert (tmp_path / "1.out").read_text() == "s1\n"
    assert (tmp_path / "1.log").read_text() == "said on stderr\n"
    assert ended.peak_bytes is not None
    assert ended.peak_bytes > 5_000_000  # a Python takes more than that


def test_a_signal_is_a_negative_code(tmp_path: Path) -> None:
    ended = run_task(python(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert ended.code == -9


def test_stop_is_an_interrupt(tmp_path: Path) -> None:
    # given a process that is in its group, not in ours, and that says when it is ready
    process = Process(python(tmp_path, "import time; print('ready', flush=True); time.sleep(60)"))
    assert os.getpgid(process.pid) == process.pid
    while "ready" not in (tmp_path / "1.out").read_text():
        time.sleep(0.01)
    assert process.ended() is None

    # when it is stopped, then it ends as by Ctrl-C
    process.stop()
    ended = process.ended(wait=True)
    assert ended is not None
    assert "KeyboardInterrupt" in (tmp_path / "1.log").read_text()
    process.kill()  # after the end this does nothing


def test_kill_ends_what_the_job_has_started(tmp_path: Path) -> None:
    code = "import subprocess as s; c = s.Popen(['sleep', '60']); print(c.pid, flush=True); c.wait()"
    process = Process(python(tmp_path, code))
    while not (tmp_path / "1.out").read_text():
        time.sleep(0.01)
    grandchild = int((tmp_path / "1.out").read_text())
    process.kill()
    ended = process.ended(wait=True)
    assert ended is not None
    assert ended.code == -9
    deadline = time.monotonic() + 10
    while _alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(grandchild)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_launcher_that_is_stopped_takes_the_job_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a wait that is interrupted once
    asked: list[int] = []
    wait = Process.ended

    def interrupted(self: Process, *, wait_: bool = False, **given: bool) -> object:
        asked.append(self.pid)
        if len(asked) == 1:
            raise KeyboardInterrupt
        return wait(self, **given)

    monkeypatch.setattr(Process, "ended", interrupted)

    # when a task runs, then it is over before the interruption goes on
    with pytest.raises(KeyboardInterrupt):
        run_task(python(tmp_path, "import time; time.sleep(60)"))
    assert not _alive(asked[0])
