"""A command in a child process: whatever its code does to the process, exit code 0 stands for a printed artifact."""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder import noop
from builder.__main__ import main
from builder.errors import BuilderError, SourceError
from builder.util import child
from builder.util.child import print_artifact, run_in_child
from builder.util.process_state import guarded
from builder.util.shared_record import SharedRecord
from builder.util.user_code import call


def raise_(error: BaseException) -> None:
    raise error


def fork_and_go_on() -> None:
    os.fork()


def exit_where_original() -> None:
    if os.fork():
        os._exit(0)


HARMLESS: dict[str, Callable[[], object]] = {
    "write to stdout": lambda: os.write(1, b"/etc/passwd\n"),
    "close stdout": lambda: os.close(1),
    "close all streams": lambda: os.closerange(0, 3),
    "replace stdout": lambda: os.dup2(2, 1),
    "no streams": lambda: setattr(sys, "stdout", None),
    "move": lambda: os.chdir("/"),
    "umask": lambda: os.umask(0o777),
    "recursion": lambda: sys.setrecursionlimit(120),
    "ignore": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    "forget": os.environ.clear,
    "copy": fork_and_go_on,
    "end later": lambda: atexit.register(lambda: os._exit(5)),
    "block at the end": lambda: atexit.register(lambda: time.sleep(60)),
}
HARMFUL: dict[str, Callable[[], object]] = {
    "end": lambda: os._exit(0),
    "exit": lambda: sys.exit(0),
    "close everything": lambda: os.closerange(0, 4096),
    "original ends": exit_where_original,
    "GeneratorExit": lambda: raise_(GeneratorExit()),
    "BaseException": lambda: raise_(BaseException()),
    "KeyboardInterrupt": lambda: raise_(KeyboardInterrupt()),
    "abort": lambda: os.kill(os.getpid(), signal.SIGABRT),
}
LASTS = ("block at the end",)


def work_of(names: list[str], artifact: Path) -> Callable[[], int]:
    """A command that calls code of a user for each name, and then has built `artifact`."""

    def work() -> int:
        try:
            for name in names:
                call({**HARMLESS, **HARMFUL}[name], name, key="source", error=SourceError, code="B0313")
        except BuilderError as error:
            print(f"error: {error.message}", file=sys.stderr)
            return error.exit_code
        print_artifact(str(artifact))
        return 0

    return work


def test_exit_code_0_is_a_printed_artifact_whatever_code_does(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    artifact = tmp_path / "a.mlpackage"
    artifact.mkdir()
    quick = [name for name in HARMLESS if name not in LASTS]

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(st.sampled_from(quick), max_size=3), st.sampled_from(["", *HARMFUL]))
    def check(names: list[str], last: str) -> None:
        folder, variables = Path.cwd(), dict(os.environ)
        code = run_in_child(work_of([*names, *[last] * bool(last)], artifact))
        out, err = capfd.readouterr()
        assert (Path.cwd(), dict(os.environ)) == (folder, variables)
        assert (code, out) == ((3, "") if last else (0, f"{artifact}\n")), (names, last, err)
        assert not last or err.strip()
        for name in ("copy", "close stdout", "forget"):
            assert name not in names or name in err

    check()


def test_a_command_that_does_not_end_after_its_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    assert run_in_child(work_of(["block at the end"], tmp_path)) == 0
    assert time.monotonic() - started < 10
    assert capfd.readouterr().out == f"{tmp_path}\n"


def test_an_artifact_that_is_gone_is_not_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_in_child(work_of([], tmp_path / "absent")) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert "absent is not there any more" in err


def test_code_that_is_called_often_does_not_wait_for_the_parent() -> None:
    def work() -> int:
        return sum(
            call(lambda: 0, "losses:of_a_long_name", key="x", error=SourceError, code="B0313") for _ in range(3000)
        )

    assert run_in_child(work) == 0


@settings(deadline=None)
@given(st.text(st.characters(codec=None), max_size=300), st.integers(-128, 255))
def test_what_a_child_tells_is_what_its_parent_reads(text: str, code: int) -> None:
    record = SharedRecord()
    before = record.code
    record.code = code
    assert (before, record.code) == (None, code)
    record.doing, record.artifact = text, text * 20
    assert record.doing == text
    assert (text * 20).startswith(record.artifact)
    for _ in range(200):
        record.note("x" * 1000)
    assert 50 < len(record.notes) < 200


def test_a_user_who_interrupts_is_not_the_code_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt), guarded("it"):  # in a process that is not a child nobody knows who it was
        raise KeyboardInterrupt
    monkeypatch.setattr(child._Here, "record", SharedRecord())
    with pytest.raises(SourceError, match="it raised KeyboardInterrupt"), guarded("it"):
        raise KeyboardInterrupt
    monkeypatch.setattr(child._Here, "is_interrupted", True)
    with pytest.raises(KeyboardInterrupt), guarded("it"):
        raise KeyboardInterrupt


def test_what_a_command_removes_at_its_end_is_removed_although_it_is_asked_to_stop_just_then(tmp_path: Path) -> None:
    # given a command that has ended, and is removing what it has made
    kept, mark = tmp_path / "kept", tmp_path / "mark"
    kept.mkdir()

    def remove() -> None:
        mark.touch()
        time.sleep(0.4)
        kept.rmdir()

    def work() -> int:
        atexit.register(remove)
        return 0

    # when somebody presses Ctrl-C
    presser = subprocess.Popen(["sh", "-c", f"while [ ! -e {mark} ]; do sleep 0.02; done; kill -INT {os.getpid()}"])
    code = run_in_child(work)
    # then
    presser.wait()
    assert code == 0
    assert not kept.exists()


def test_what_never_ends_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    # given native code that hears no signal and holds Python's lock, beside processes of its own
    mark = tmp_path / "pids"

    def stuck() -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as if it were in native code already
        below = "import subprocess, time; print(subprocess.Popen(['sleep', '99']).pid, flush=True); time.sleep(99)"
        started = subprocess.Popen([sys.executable, "-c", below], stdout=subprocess.PIPE, start_new_session=True)
        assert started.stdout is not None
        mark.with_name("part").write_text(f"{started.pid} {int(started.stdout.readline())}")
        mark.with_name("part").rename(mark)
        ctypes.PyDLL(None).sleep(99)
        return 0

    # when it is asked to stop once it is stuck
    press = f"while [ ! -e {mark} ]; do sleep 0.05; done; sleep 0.3; kill -INT {os.getpid()}; date +%s.%N > {mark}.time"
    presser = subprocess.Popen(["sh", "-c", press])
    code = run_in_child(stuck)
    ended = time.time()
    # then
    presser.wait()
    assert code == 130
    assert ended - float(Path(f"{mark}.time").read_text()) < 2
    until = time.monotonic() + 2
    pids = [int(pid) for pid in mark.read_text().split()]
    while any(is_running(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)
    assert [pid for pid in pids if is_running(pid)] == []


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_interruption_before_anything_has_begun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(noop, "answer", lambda _: raise_(KeyboardInterrupt()))
    assert main(["recipe=x"]) == 130
    assert capsys.readouterr().err == "\ninterrupted: nothing was replaced\n"


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system cannot wait for a process and for a time")
def test_the_end_of_a_child_is_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a child that takes longer than the pauses take to grow, and pauses that nobody could overlook
    monkeypatch.setattr(child, "min", lambda *_: 30.0, raising=False)
    started = time.monotonic()
    # when
    code = child.run_in_child(lambda: time.sleep(0.1) or 0)
    # then
    assert code == 0
    assert time.monotonic() - started < 15
