"""What is built again, and when: changes of what the build named, half-saved files, mistakes, changes meanwhile."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import ModuleType

import pytest

from builder.jobs.forks import ForkServer
from builder.jobs.jobs import Exit, Task
from builder.watch import loop
from builder.watch.events import happenings
from builder.watch.inputs import Inputs, Snapshot, look, read_inputs, read_modules, write_inputs, write_modules
from builder.watch.loop import Builds, Event, Follower
from builder.watch.results import Result


class Fake:
    """Stands in for builds: each takes as many looks as the test says, and tells what it reads at the second one."""

    def __init__(self, folder: Path, reads: Callable[[], set[Path]]) -> None:
        self.reads, self._told = reads, folder / "told.json"
        self.started = self.stopped = 0
        self.looks = 2
        self.code = 0
        self._left: int | None = None

    def start(self) -> None:
        self.started += 1
        self._left = self.looks
        self._told.unlink(missing_ok=True)

    def inputs(self) -> tuple[Inputs, Snapshot] | None:
        if self._left == self.looks - 1:
            self.tell()
        return read_inputs(self._told)

    def tell(self) -> None:
        inputs = Inputs(
            files=frozenset(self.reads()), folders=frozenset(), missing=frozenset(), recipe="x", variant="default"
        )
        write_inputs(inputs, look(inputs), self._told)

    def ended(self) -> Exit | None:
        assert self._left is not None
        self._left -= 1
        return Exit(code=self.code, seconds=0.0) if self._left <= 0 else None

    def log(self) -> str:
        return ""

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture(autouse=True)
def results(monkeypatch: pytest.MonkeyPatch) -> None:
    def result_of(ended: Exit, *_: object) -> Result:
        return Result(verdict=str(ended.code), summary="", error="", document=None, report=None)

    monkeypatch.setattr(loop, "result_of", result_of)


def follow(folder: Path, fake: Fake, known: set[Path], steps: list[Callable[[], None]]) -> list[Event]:
    """The events of a build, and of what the steps do, each once nothing runs any more."""

    def changes(_: frozenset[Path]) -> Generator[bool]:
        while True:
            if fake._left is not None and fake._left > 0:
                yield False
            elif steps:
                steps.pop(0)()
                yield True
                yield False
            else:
                return

    first = Inputs(files=frozenset(known), folders=frozenset(), missing=frozenset())
    return list(Follower(fake, folder, first).follow(changes))  # type: ignore[arg-type]


def write(path: Path, text: str) -> Callable[[], None]:
    def work() -> None:
        path.write_text(text)

    return work


def told(events: list[Event]) -> list[tuple[list[str], str]]:
    """Why each build began, and what came of it."""
    return [(list(event.changed), event.result.verdict) for event in events if event.result is not None]


def test_what_the_build_read_is_watched_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe, code, other = (tmp_path / name for name in ("x.yaml", "net.py", "notes.txt"))
    for path in (recipe, code, other):
        path.write_text("1")
    fake = Fake(tmp_path, lambda: {recipe, code})
    events = follow(tmp_path, fake, {recipe}, [write(other, "22"), write(code, "22"), write(recipe, "22")])
    assert told(events) == [([], "0"), (["net.py"], "0"), (["x.yaml"], "0")]


def test_what_a_build_reads_no_longer_is_not_watched_and_what_is_new_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old, new, recipe = (tmp_path / name for name in ("old.pt", "new.pt", "x.yaml"))
    for path in (recipe, old, new):
        path.write_text("1")
    reads = {recipe, old}
    fake = Fake(tmp_path, lambda: reads)

    def another() -> None:
        reads.symmetric_difference_update({old, new})
        recipe.write_text("22")

    events = follow(tmp_path, fake, {recipe}, [another, write(old, "22"), write(new, "22")])
    assert told(events) == [([], "0"), (["x.yaml"], "0"), (["new.pt"], "0")]


def test_a_mistake_is_shown_and_what_was_read_before_stays_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a build of which code is broken, so that it cannot say that it reads the weights
    monkeypatch.chdir(tmp_path)
    code, weights = tmp_path / "net.py", tmp_path / "w.pt"
    for path in (code, weights):
        path.write_text("1")
    reads = {code, weights}
    fake = Fake(tmp_path, lambda: reads)

    def broken() -> None:
        reads.discard(weights)
        fake.code = 3
        code.write_text("def (")

    # when the weights change, which may be what mends it
    events = follow(tmp_path, fake, {code}, [broken, write(weights, "22")])
    assert told(events) == [([], "0"), (["net.py"], "3"), (["w.pt"], "3")]


def test_a_recipe_that_cannot_be_composed_says_nothing_and_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "x.yaml"
    recipe.write_text("1")
    fake = Fake(tmp_path, set)
    fake.code = 2
    monkeypatch.setattr(fake, "tell", lambda: None)
    assert told(follow(tmp_path, fake, {recipe}, [write(recipe, "22")])) == [([], "2"), (["x.yaml"], "2")]


def test_deleted_and_new_files_are_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = tmp_path / "net.py"
    code.write_text("1")
    fake = Fake(tmp_path, lambda: {code})
    events = follow(tmp_path, fake, {code}, [code.unlink, write(code, "1")])
    assert told(events) == [([], "0"), (["net.py (gone)"], "0"), (["net.py (new)"], "0")]


def test_a_change_during_a_build_ends_it_and_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = tmp_path / "net.py"
    code.write_text("1")
    fake = Fake(tmp_path, lambda: {code})
    fake.looks = 5
    looks = [0]

    def changes(_: frozenset[Path]) -> Generator[bool]:
        while fake._left:
            looks[0] += 1
            if looks[0] == 3:
                code.write_text("22")
            yield looks[0] == 3

    follower = Follower(fake, tmp_path, Inputs(files=frozenset({code}), folders=frozenset(), missing=frozenset()))  # type: ignore[arg-type]
    assert told(list(follower.follow(changes))) == [(["net.py"], "0")]
    assert (fake.started, fake.stopped) == (2, 1)


def test_a_change_between_the_start_of_a_build_and_what_it_says_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given code that is saved after the build began, and before it says that it reads it
    monkeypatch.chdir(tmp_path)
    recipe, code = tmp_path / "x.yaml", tmp_path / "net.py"
    recipe.write_text("1")
    code.write_text("1")
    fake = Fake(tmp_path, lambda: {recipe, code})
    tell = fake.tell

    def late() -> None:
        if fake.started == 1:
            tell()
            code.write_text("22")
        else:
            tell()

    monkeypatch.setattr(fake, "tell", late)
    assert told(follow(tmp_path, fake, {recipe}, []))[-1] == (["net.py"], "0")


def test_what_editors_leave_for_a_moment_is_no_change(tmp_path: Path) -> None:
    folder = frozenset({tmp_path})
    inputs = Inputs(files=frozenset(), folders=folder, missing=frozenset({tmp_path / "conf"}))
    before = look(inputs)
    for name in (".x.yaml.swp", "4913", "x.yaml~", "#x#"):
        (tmp_path / name).touch()
    assert look(inputs).changes_since(before) == []
    (tmp_path / "7.png").touch()
    (tmp_path / "conf").mkdir()
    assert [change.rpartition("/")[2] for change in look(inputs).changes_since(before)] == ["7.png (new)", "conf (new)"]


def test_inputs_travel_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    inputs = Inputs(
        files=frozenset({tmp_path / "a", tmp_path / "gone"}), folders=frozenset({tmp_path}),
        missing=frozenset({tmp_path / "b"}), recipe="x", variant="default",
    )  # fmt: skip
    seen = look(inputs)
    write_inputs(inputs, seen, tmp_path / "told")
    assert read_inputs(tmp_path / "told") == (inputs, seen)
    assert read_inputs(tmp_path / "nothing") is None


@pytest.mark.parametrize("how", ["in place", "replaced", "new", "gone"])
def test_the_file_system_says_what_happens(how: str, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    if how != "new":
        file.write_text("1")

    def change() -> None:
        time.sleep(0.2)
        if how == "replaced":
            (tmp_path / ".part").write_text("22")
            (tmp_path / ".part").replace(file)
        elif how == "gone":
            file.unlink()
        else:
            file.write_text("22")

    thread = threading.Thread(target=change)
    events = happenings(frozenset({tmp_path}))
    next(events)
    thread.start()
    started = time.monotonic()
    assert any(happened for happened, _ in zip(events, range(100), strict=False))
    assert time.monotonic() - started < 3
    thread.join()
    events.close()


@pytest.fixture
def room(tmp_path: Path) -> Path:
    (tmp_path / "room").mkdir()
    return tmp_path / "room"


def test_the_process_that_forks_is_started_anew_once_it_is_gone(
    room: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # given a process to fork from that dies as soon as it is asked, and builds that run on their own then
    monkeypatch.chdir(tmp_path)
    settings = loop.Settings(
        overrides=("recipe=nothing",), options=("-q",), outputs=tmp_path / "outputs", workspace=room,
        worker=(loop.sys.executable, "-c", "import sys; sys.exit(1)"),
    )  # fmt: skip
    said: list[str] = []
    builds = Builds(settings, said.append)
    builds.start()
    until = time.monotonic() + 60
    while (ended := builds.ended()) is None and time.monotonic() < until:
        time.sleep(0.02)
    builds.close()
    assert ended is not None
    assert ended.code == 2
    assert "error[B0211]" in "".join(said) or "there is no recipe" in "".join(said)


def test_what_was_imported_is_imported_anew_once_libraries_change(
    room: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # given servers that are never asked for anything
    monkeypatch.chdir(tmp_path)
    made: list[str] = []

    class Server:
        def __init__(self, *_: object) -> None:
            made.append("start")

        def start(self, _: object) -> object:
            return object()

        def kill(self) -> None:
            made.append("kill")

    monkeypatch.setattr(loop, "ForkServer", Server)
    monkeypatch.setattr(loop, "can_fork", lambda: True)
    versions = iter([1, 1, 2])
    settings = loop.Settings(
        overrides=(), options=(), outputs=tmp_path, workspace=room, worker=(), libraries=lambda: next(versions)
    )
    builds = Builds(settings, lambda _: None)
    for _ in range(3):
        builds.start()
    assert made == ["start", "kill", "start"]


def test_modules_of_packages_are_told_and_those_of_a_user_are_not(tmp_path: Path) -> None:
    (tmp_path / "net.py").touch()
    modules = {name: ModuleType(name) for name in ("installed", "net", "__main__", "built_in")}
    modules["installed"].__file__ = str(tmp_path / "site-packages" / "installed.py")
    modules["__main__"].__file__ = str(tmp_path / "site-packages" / "main.py")
    modules["net"].__file__ = str(tmp_path / "net.py")
    write_modules(modules, [tmp_path / "site-packages"], tmp_path / "told.json")
    assert read_modules(tmp_path / "told.json") == {"installed"}
    assert read_modules(tmp_path / "nothing.json") == set()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks")
def test_a_module_that_starts_a_thread_is_not_imported_before_a_fork(tmp_path: Path) -> None:
    # given a server, which imports one module that is harmless, and then one that is not
    (tmp_path / "calm.py").write_text("VALUE = 1\n")
    (tmp_path / "busy.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n"
    )
    serve = (
        "import socket, sys; from builder.jobs.fork_server import serve\n"
        "task = serve(socket.socket(fileno=int(sys.argv[1])))\n"
        "sys.exit(0 if task is None else 40 + ('calm' in sys.modules))"
    )
    server = ForkServer((sys.executable, "-c", serve), {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])})
    task = Task(command=(), folder=str(tmp_path), environment={}, log=str(tmp_path / "log"), out=str(tmp_path / "out"))

    def code() -> int:
        job = server.start(task)
        while (found := job.ended()) is None:
            time.sleep(0.01)
        return found.code

    try:
        assert code() == 40
        server.preload(["calm", "there_is_no_such_module"])
        assert code() == 41
        server.preload(["busy"])
        with pytest.raises(ConnectionError):
            code()
    finally:
        server.kill()
