"""Builds from Python run in a child: what code does to its process is an error here, and nothing of ours changes."""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import BuilderError, ConfigurationError, SourceError, UnfitEnvironmentError
from builder.progress import Heard, Sent, Silent
from builder.util import apart
from builder.util.apart import Send, call_apart


def end(code: int, _send: Send) -> None:
    os._exit(code)


def kill(_send: Send) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash(_send: Send) -> None:
    ctypes.string_at(0)


def close_everything(_send: Send) -> None:
    os.closerange(0, 4096)


def refuse(_send: Send) -> None:
    raise ConfigurationError("no", code="B0224", hint="yes", key="source.kind")


class OddError(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("odd")
        self.lock = threading.Lock()


def raise_odd(_send: Send) -> None:
    raise OddError


def change(_send: Send) -> int:
    os.environ["OF_THE_CHILD"] = "1"
    os.chdir("/")
    print("from the child")
    print("an error", file=sys.stderr)
    return os.getpid()


def report(send: Send) -> None:
    progress = Sent(send)
    progress.begin("load")
    with progress.bar("bytes", 3, unit="B") as advance:
        advance(2)
    progress.end("load", 1.5, "done", cached=True)
    progress.warn("careful", code="B0003")


def wait(mark: str, _send: Send) -> None:
    Path(f"{mark}.new").write_text(str(os.getpid()))
    Path(f"{mark}.new").rename(mark)
    ctypes.PyDLL(None).sleep(60)  # which holds Python's lock, and hears no signal


@pytest.fixture(params=["fork", "server"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """From a process with one thread, and from one with several."""
    monkeypatch.setattr(apart, "_may_fork", lambda: request.param == "fork")
    value: str = request.param
    return value


@pytest.mark.parametrize(
    ("work", "error", "text"),
    [
        (functools.partial(end, 0), SourceError, r"os\._exit\(0\)"),
        (functools.partial(end, 7), SourceError, r"os\._exit\(7\)"),
        (kill, UnfitEnvironmentError, "SIGKILL"),
        (crash, SourceError, "SIGSEGV"),
        (close_everything, SourceError, "closed files"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_ends_the_child_is_an_error(work: Callable[[Send], None], error: type[BuilderError], text: str) -> None:
    with pytest.raises(error, match=text):
        call_apart(work, {})


def test_an_error_is_the_one_that_was_raised() -> None:
    with pytest.raises(ConfigurationError, match="no") as caught:
        call_apart(refuse, {})
    assert (caught.value.code, caught.value.hint, caught.value.key) == ("B0224", "yes", "source.kind")
    with pytest.raises(RuntimeError, match="OddError: odd") as other:
        call_apart(raise_odd, {})
    assert "raise OddError" in other.value.__notes__[0]


def test_nothing_changes_here_and_texts_are_written_here(capsys: pytest.CaptureFixture[str]) -> None:
    # given something that this process would do at its end
    done: list[int] = []
    atexit.register(done.append, 1)
    before = (Path.cwd(), dict(os.environ))
    # when
    pid = call_apart(change, {})
    # then
    atexit.unregister(done.append)
    assert pid != os.getpid()
    assert (Path.cwd(), dict(os.environ)) == before
    assert capsys.readouterr() == ("from the child\n", "an error\n")


def test_a_listener_hears_everything_in_order() -> None:
    heard: list[object] = []

    class Listener(Silent):
        def begin(self, stage: str, expected: float | None = None) -> None:
            heard.append(("begin", stage, expected, os.getpid()))

        def end(self, stage: str, seconds: float, result: str, *, cached: bool) -> None:
            heard.append(("end", stage, seconds, result, cached))

        def warn(self, message: str, *, code: str) -> None:
            heard.append((message, code))

    call_apart(report, Heard(Listener()).handlers)
    assert heard == [("begin", "load", None, os.getpid()), ("end", "load", 1.5, "done", True), ("careful", "B0003")]


def test_an_interruption_ends_the_child_within_two_seconds(tmp_path: Path) -> None:
    # given native code that hears no signal
    mark = tmp_path / "running"

    def interrupt() -> None:
        while not mark.exists():
            time.sleep(0.01)
        began.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    began: list[float] = []
    thread = threading.Thread(target=interrupt)
    thread.start()
    # when
    with pytest.raises(KeyboardInterrupt):
        call_apart(functools.partial(wait, str(mark)), {})
    took = time.monotonic() - began[0]
    thread.join()
    # then
    assert took < 4, "two seconds, on a machine that does other things"


def test_a_listener_that_raises_ends_the_child() -> None:
    def begin(*_: object) -> None:
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        call_apart(report, {"begin": begin})


def test_from_a_program_whose_server_was_killed(way: str) -> None:
    from builder.util import apart_server

    if way == "fork":
        pytest.skip("there is no server")
    call_apart(report, Heard(Silent()).handlers)
    server = apart_server._servers[os.getpid()]
    server._process.kill()
    server._process.wait()
    with pytest.raises(ConfigurationError):  # by another server
        call_apart(refuse, {})


def test_nothing_lives_on_after_a_program_that_was_killed(tmp_path: Path, way: str) -> None:
    # given a program that builds
    mark = tmp_path / "running"
    text = f"""
        import functools, sys
        from builder.util import apart
        from tests.unit.test_apart import wait
        apart._may_fork = lambda: {way == "fork"}
        apart.call_apart(functools.partial(wait, {str(mark)!r}), {{}})
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = subprocess.Popen([sys.executable, "-c", textwrap.dedent(text)], env=environment)
    until = time.monotonic() + 120
    while not mark.exists() and time.monotonic() < until:
        time.sleep(0.05)
    # when
    program.kill()
    program.wait()
    # then
    child = Path("/proc", mark.read_text())
    until = time.monotonic() + 20
    while child.exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not child.exists()
