"""Jobs as forks: what they say goes to files, signals are told, and the loss of the server is survived."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.jobs.forks import Fork, ForkServer, can_fork
from builder.jobs.jobs import Exit, Job, Task
from builder.jobs.local import LocalLauncher
from builder.jobs.settings import LocalSweep

pytestmark = pytest.mark.skipif(not can_fork(), reason="jobs are forked on Linux alone")

WORKER = """
import socket, sys
imported_once = object()
from builder.jobs.fork_server import serve
task = serve(socket.socket(fileno=int(sys.argv[1])))
if task is not None:
    exec(task.arguments[0])
"""
COMMAND = (sys.executable, "-c", WORKER)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    server = ForkServer(COMMAND, {"OMP_NUM_THREADS": "1"})
    yield server
    server.close()


def task(folder: Path, code: str, number: int = 1) -> Task:
    return Task(
        command=(sys.executable, "-m", "builder", code),
        folder=str(folder),
        environment={"BUILDER_SWEEP_ID": f"s{number}"},
        log=str(folder / f"{number}.log"),
        out=str(folder / f"{number}.out"),
    )


def ended(fork: Fork) -> Exit:
    deadline = time.monotonic() + 60
    while (found := fork.ended()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def wait_for_text(path: Path, text: str) -> str:
    deadline = time.monotonic() + 60
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.read_text()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_streams_environment_folder_and_code(server: ForkServer, tmp_path: Path) -> None:
    code = "import os; print(os.environ['BUILDER_SWEEP_ID'], os.getcwd(), sys.stdin.read()); sys.exit('on stderr')"
    found = ended(server.start(task(tmp_path, code)))
    assert found.code == 1
    assert (tmp_path / "1.out").read_text() == f"s1 {tmp_path} \n"
    assert (tmp_path / "1.log").read_text() == "on stderr\n"
    assert found.peak_bytes is not None
    assert found.peak_bytes > 5_000_000  # a Python takes more than that


def test_jobs_share_what_was_imported_and_nothing_else(server: ForkServer, tmp_path: Path) -> None:
    # given two jobs, each of which would see what the other one set
    codes = ["print(id(imported_once), len(sys.argv)); sys.argv.append('mine'); import time; time.sleep(0.2)"] * 2
    forks = [server.start(task(tmp_path, code, number)) for number, code in enumerate(codes, start=1)]
    # then each says the same
    assert [ended(fork).code for fork in forks] == [0, 0]
    assert (tmp_path / "1.out").read_text() == (tmp_path / "2.out").read_text() != ""


def test_what_runs_at_the_end_of_a_process_runs(server: ForkServer, tmp_path: Path) -> None:
    ended(server.start(task(tmp_path, "import atexit; atexit.register(print, 'at the end')")))
    assert (tmp_path / "1.out").read_text() == "at the end\n"


def test_a_job_that_is_killed_is_told_and_the_next_one_runs(server: ForkServer, tmp_path: Path) -> None:
    assert ended(server.start(task(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))).code == -9
    assert ended(server.start(task(tmp_path, "print('fine')"))).code == 0


def test_stop_is_an_interrupt(server: ForkServer, tmp_path: Path) -> None:
    # given a job in a group of its own
    fork = server.start(task(tmp_path, "import time; print('ready', flush=True); time.sleep(60)"))
    wait_for_text(tmp_path / "1.out", "ready")
    assert os.getpgid(fork.pid) == fork.pid
    assert fork.ended() is None
    # when
    fork.stop()
    # then
    assert ended(fork).code != 0
    assert "KeyboardInterrupt" in (tmp_path / "1.log").read_text()
    fork.kill()  # after the end this does nothing


def test_kill_ends_what_the_job_has_started(server: ForkServer, tmp_path: Path) -> None:
    code = "import subprocess as s; c = s.Popen(['sleep', '60']); print(c.pid, flush=True); c.wait()"
    fork = server.start(task(tmp_path, code))
    grandchild = int(wait_for_text(tmp_path / "1.out", "\n"))
    fork.kill()
    assert ended(fork).code == -9
    deadline = time.monotonic() + 10
    while is_alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(grandchild)


def test_jobs_go_on_as_processes_when_the_server_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a launcher with a running fork, whose server is killed
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    launcher = LocalLauncher(
        LocalSweep(jobs=2, job_memory=100_000_000), peaks=tmp_path / "peaks.json", jobs=2, worker=COMMAND
    )
    jobs = [Job(number=number, arguments=(), label="", request=None) for number in (1, 2)]
    fork = launcher.start(jobs[0], task(tmp_path, "import time; print('ready', flush=True); time.sleep(60)"))
    assert isinstance(fork, Fork)
    wait_for_text(tmp_path / "1.out", "ready")
    os.kill(int(Path(f"/proc/{fork.pid}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)

    # then that job ends, is told as killed, and nothing of it is left
    found = ended(fork)
    assert found.code == -9
    assert "forked from was killed" in found.summary
    deadline = time.monotonic() + 10
    while is_alive(fork.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(fork.pid)

    # and the next one runs on its own: there is no such recipe, which it can only say itself
    process = launcher.start(jobs[1], task(tmp_path, "recipe=none_such", number=2))
    assert not isinstance(process, Fork)
    while (end := process.ended()) is None:
        time.sleep(0.01)
    assert end.code == 2
    assert "none_such" in (tmp_path / "2.log").read_text()
    launcher.close()


def test_a_server_that_cannot_start_is_done_without(tmp_path: Path) -> None:
    broken = (sys.executable, "-c", "raise SystemExit(1)")
    launcher = LocalLauncher(LocalSweep(job_memory=100_000_000), peaks=tmp_path / "peaks.json", jobs=1, worker=broken)
    job = Job(number=1, arguments=(), label="", request=None)
    process = launcher.start(job, task(tmp_path, "--version"))
    while (end := process.ended()) is None:
        time.sleep(0.01)
    assert end.code == 0
    launcher.close()
