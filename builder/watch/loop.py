"""Waits for changes and builds, one build at a time, each in a child; a change during a build ends it and starts anew.

This process runs no code of a user and imports neither torch nor coremltools. Builds are forks of a process that has
imported them and has run nothing (`builder.jobs.fork_server`), so user code is read anew each time.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.jobs.forks import Fork, ForkServer, can_fork
from builder.jobs.jobs import Exit, Task
from builder.jobs.process import Process
from builder.progress import WATCHED_VARIABLE
from builder.watch.inputs import Inputs, Snapshot, look, read_inputs, read_modules
from builder.watch.results import BROKEN, NOTHING, Result, result_of

_STOPPING, _ENDING = 1.2, 0.5
"""Seconds that a build has to end after it was asked to, where another follows, and where all ends."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is built, and where."""

    overrides: Sequence[str]
    options: Sequence[str]
    """Options of the command line for each build, such as `-v`."""
    outputs: Path
    workspace: Path
    """A folder for what builds say."""
    worker: Sequence[str]
    """The command of the process that forks."""
    libraries: Callable[[], object] = lambda: None
    """Changes when that process would import something else: builder itself, or installed packages."""


class Builds:
    """Starts builds, one at a time, and follows what they say."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings, self._say = settings, say
        self._server: ForkServer | None = None
        self._libraries: object = None
        self._loaded: frozenset[str] | None = frozenset()
        """What the server was asked to import; None where that started a thread, so that nothing is asked any more."""
        self._running: Fork | Process | None = None
        self._log = settings.workspace / "log"
        self._inputs_file = settings.workspace / "inputs.json"
        self._read = 0

    def start(self) -> None:
        """Start a build."""
        self._inputs_file.unlink(missing_ok=True)
        self._log.write_bytes(b"")
        self._read = 0
        settings = self._settings
        words = ("build", *settings.overrides, *settings.options, "--outputs", str(settings.outputs))
        task = Task(
            command=(sys.executable, "-m", "builder", *words),
            folder=str(Path.cwd()),
            environment={WATCHED_VARIABLE: str(self._inputs_file)},
            log=str(self._log),
            out=str(settings.workspace / "out"),
        )
        self._running = self._forked(task) if can_fork() else Process(task)

    def _forked(self, task: Task) -> Fork | Process:
        """A fork; where the process to fork from is gone, a new one of it."""
        environment = {"PYTHONDONTWRITEBYTECODE": "1"}  # two saves within a second have bytecode of one date
        libraries = self._settings.libraries()
        if self._server is not None and libraries != self._libraries:
            self._server.kill()
            self._server = None
            self._loaded = self._loaded and frozenset()
        self._libraries = libraries
        for _ in range(2):
            self._server = self._server or ForkServer(self._settings.worker, environment)
            try:
                return self._server.start(task)
            except (ConnectionError, BrokenPipeError):
                self._server.kill()
                self._server = None
                self._loaded = None if self._loaded else self._loaded
        return Process(task)  # what it imports is broken: a build on its own tells what is wrong

    def ended(self) -> Exit | None:
        """How the build ended, None while it runs; what it said meanwhile is said."""
        found = None if self._running is None else self._running.ended()
        self._follow()
        if found is not None:
            self._running = None
            self._preload()
        return found

    def _preload(self) -> None:
        """Have the next build find imported what this one had to import, since there is time for it now."""
        modules = read_modules(self._inputs_file)
        if self._server is not None and self._loaded is not None and (new := modules - self._loaded):
            self._server.preload(sorted(new))
            self._loaded |= new

    def inputs(self) -> tuple[Inputs, Snapshot] | None:
        """What the build said that it reads, and how that looked before."""
        return read_inputs(self._inputs_file)

    def log(self) -> str:
        """All that the build said."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def stop(self, patience: float = _STOPPING) -> None:
        """End the build, if one runs; the next one mends what it leaves."""
        if self._running is None:
            return
        self._running.stop()
        until = time.monotonic() + patience
        while self._running.ended() is None:
            if time.monotonic() > until:
                self._running.kill()
                break
            time.sleep(0.01)
        self._running = None

    def close(self) -> None:
        """End everything."""
        self.stop(_ENDING)
        if self._server is not None:
            self._server.kill()

    def _follow(self) -> None:
        """Say what the build has said since the last look."""
        with self._log.open("rb") as stream:
            stream.seek(self._read)
            content = stream.read()
        self._read += len(content)
        if content:
            self._say(content.decode("utf-8", "replace"))


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that the terminal and the page show: a build has begun, or ended."""

    changed: Sequence[str]
    """Why the build began; nothing for the first."""
    result: Result | None
    """What came of it; None where it has begun."""
    seconds: float
    """Since the build began."""


class Follower:
    """Builds, and again with every change of what the last build has read."""

    def __init__(self, builder: Builds, outputs: Path, first: Inputs) -> None:
        self._builder, self._outputs = builder, outputs
        self._known = first
        self._seen = look(first)
        self._result = NOTHING
        self._changed: Sequence[str] = ()
        self._began = 0.0
        self._is_running = self._has_inputs = False

    def follow(self, changes: Callable[[frozenset[Path]], Generator[bool]]) -> Iterator[Event]:
        """Go on until `changes` ends: for folders, it yields now and then whether something happened in them."""
        yield self._start(())
        while True:
            places = self._known.places()
            with contextlib.closing(changes(places)) as events:
                is_first = True  # something may have happened before these folders were watched
                for happened in events:
                    yield from self._step(happened=happened or is_first)
                    is_first = False
                    if self._known.places() != places:
                        break
                else:
                    return

    def _step(self, *, happened: bool) -> Iterator[Event]:
        if self._is_running:
            if not self._has_inputs and (found := self._builder.inputs()) is not None:
                self._has_inputs = happened = True
                self._learn(*found)
            if (ended := self._builder.ended()) is not None:
                happened = True
                yield self._finish(ended)
        if happened and (changed := look(self._known).changes_since(self._seen)):
            self._builder.stop()
            yield self._start(changed)

    def _start(self, changed: Sequence[str]) -> Event:
        self._seen, self._changed, self._began = look(self._known), changed, time.monotonic()
        self._is_running, self._has_inputs = True, False
        self._builder.start()
        return Event(changed=changed, result=None, seconds=0.0)

    def _learn(self, inputs: Inputs, seen: Snapshot) -> None:
        """Take what the running build says that it reads; what was looked at before it began counts as it was then."""
        self._known = inputs.with_those_of(self._known)
        self._seen = Snapshot(files={**seen.files, **self._seen.files}, folders={**seen.folders, **self._seen.folders})

    def _finish(self, ended: Exit) -> Event:
        self._is_running = False
        found, log, seconds = self._builder.inputs(), self._builder.log(), time.monotonic() - self._began
        if found is not None and ended.code in (0, BROKEN):
            self._known = found[0]  # a build that failed may have read less than it will when it is right
        self._result = result_of(ended, log, self._known, self._outputs, seconds, self._result)
        return Event(changed=self._changed, result=self._result, seconds=seconds)
