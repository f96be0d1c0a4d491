"""Runs stages one after the other, or takes their results from the store, and keeps what each did."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from builder.artifacts.record import StageReport
from builder.engine.serialize import dump, load
from builder.noop import cache_folder
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.functions import labelled
from builder.store.actions import ActionResult, Store
from builder.store.digests import StatCache, digest_of
from builder.store.inputs import stage_inputs
from builder.store.keys import stage_key
from builder.store.objects import CorruptError, Objects
from builder.util.child import doing as running
from builder.util.lazy_import import import_frozen
from builder.util.memory import give_back_memory
from builder.util.process_state import guarded
from builder.util.redact import redacted_values

if TYPE_CHECKING:  # most builds have none, and a cached one counts its imports
    from builder.store.remote.remote import Remote

Value = TypeVar("Value")
"""What a stage hands on in this process, such as a module."""
Facts = TypeVar("Facts")
"""What the store keeps of it in plain values: a type of `builder.artifacts.stored`."""


@dataclass(frozen=True, kw_only=True)
class Packed(Generic[Facts]):
    """A result as the store keeps it."""

    output: str
    """A digest of the result's meaning, for the keys of later stages."""
    facts: Facts
    objects: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What a result is packed with."""

    key: str
    inputs: Mapping[str, Any]
    objects: Objects


@dataclass(frozen=True, kw_only=True)
class StageTask(Generic[Value, Facts]):
    """How one stage is run, put into the store and taken out of it."""

    name: str
    spec: BuildSpec
    """The recipe, or that of the function."""
    function: str
    """The function of the artifact that the stage is run for; empty where it is the whole, or the only one."""
    facts: type[Facts]
    run: Callable[[], Value]
    describe: Callable[[Value], str]
    """Makes the line that people read."""
    pack: Callable[[Value, Packing], Packed[Facts]]
    restore: Callable[[Stage[Value, Facts]], Value]
    """Makes the value of what the store keeps; `Stage.again` where that cannot be kept, such as a module."""
    after: Mapping[str, str] = field(default_factory=dict)
    """Digests of the results that the stage takes, by a readable name."""
    is_storable: Callable[[Value], bool] = lambda _: True
    """Failures are not stored."""
    is_current: Callable[[Facts], bool] = lambda _: True
    """Whether a stored result still holds; all do but weights that could not be downloaded."""

    @property
    def label(self) -> str:
        """The stage as people read it, with the function."""
        return labelled(self.name, self.function)


class CacheMissError(Exception):
    """A stage has no stored result, and nothing shall be run now."""

    def __init__(self, stage: str, key: str, inputs: Mapping[str, object]) -> None:
        super().__init__(stage)
        self.stage, self.key, self.inputs = stage, key, inputs


class UnstableStageError(Exception):
    """A stage that was run again gave something else than the store said: the build starts over."""


class Stage(Generic[Value, Facts]):
    """A stage that is done: its digest and facts are at hand; its value is made when somebody needs it."""

    def __init__(self, task: StageTask[Value, Facts], action: ActionResult, facts: Facts, runner: StageRunner) -> None:
        self.action = action
        self.facts = facts
        self._task, self._runner = task, runner
        self._value: Value | None = None

    @property
    def output(self) -> str:
        """The digest of the result."""
        return self.action.output

    @property
    def objects(self) -> Objects:
        """Where the result's objects lie."""
        return self._runner.store.objects

    def stored(self, name: str) -> str:
        """The digest of an object of the result; raises CorruptError where the store's result has none of that name."""
        digest = self.action.objects.get(name)
        if digest is None:
            raise CorruptError(f"the result has no {name}")
        return digest

    def value(self) -> Value:
        """Return the result: of this run, restored, or made again."""
        if self._value is None:
            try:
                self._value = self._task.restore(self)
            except CorruptError as error:
                self._runner.store.drop(self.action, str(error))
                self._value = self.again()
        return self._value

    @property
    def held(self) -> Value | None:
        """The result, if it is at hand without any work."""
        return self._value

    def hold(self, value: Value) -> None:
        """Keep the result that this run has made."""
        self._value = value

    def forget(self) -> None:
        """Let go of the result, which is made again should somebody need it after all."""
        self._value = None

    def again(self) -> Value:
        """Run the stage again; raises UnstableStageError when it gives something else than the store said."""
        # Those that are stored have no secrets in them.
        inputs = self._runner.inputs(self._task.name, self._task.spec, self._task.after)
        value, action, _ = self._runner.run(self._task, self.action.key, inputs)
        if action.output != self.action.output:
            self._runner.store.drop(self.action, "it gives something else now")
            raise UnstableStageError(self._task.name)
        return value


class StageRunner:
    """The stages of one build so far. With `peek` nothing is run: the first stage without a result raises."""

    def __init__(self, progress: Progress, store: Store, remembered: StatCache, *, peek: bool = False) -> None:
        self.store = store
        self.remembered = remembered
        self.is_peek = peek
        self._progress = progress
        self._reports: list[StageReport] = []
        self._is_frozen = False

    @property
    def reports(self) -> tuple[StageReport, ...]:
        """What the stages so far did, in order."""
        return tuple(self._reports)

    def inputs(self, stage: str, spec: BuildSpec, after: Mapping[str, str]) -> dict[str, Any]:
        """Everything that the key of a stage is made of."""
        return stage_inputs(stage, spec, self.remembered) | {f"after {n}": d for n, d in after.items()}

    def find(self, stage: str, key: str, kind: type[Facts]) -> tuple[ActionResult, Facts] | None:
        """A stored result and its facts; None where there is none, or where it cannot be read."""

        def read(action: ActionResult) -> tuple[ActionResult, Facts]:
            return action, load(kind, action.record, action.objects, self.store.objects)

        return self.store.find(stage, key, read)

    def stage(self, task: StageTask[Value, Facts]) -> Stage[Value, Facts]:
        """Return a stage that is done: found in the store, or run now by one process of all that want it."""
        if not self.is_peek:
            self._progress.begin(task.label, self.remembered.number(_duration_name(task)))
        start = time.perf_counter()
        inputs = self.inputs(task.name, task.spec, task.after)
        key = stage_key(task.name, inputs)
        if found := self._found(task, key):
            return self._done(Stage(task, *found, self), task, start, cached=True)
        if self.is_peek:
            raise CacheMissError(task.name, key, inputs)
        with self.store.alone(task.name, key):
            if found := self._found(task, key):
                return self._done(Stage(task, *found, self), task, start, cached=True)
            value, action, facts = self.run(task, key, inputs)
        stage = Stage(task, action, facts, self)
        stage.hold(value)
        return self._done(stage, task, start, cached=False)

    def run(
        self, task: StageTask[Value, Facts], key: str, inputs: Mapping[str, Any]
    ) -> tuple[Value, ActionResult, Facts]:
        """Run a stage and store what it gave, unless that is a failure or an input changed meanwhile."""
        start = time.perf_counter()
        self._is_frozen |= import_frozen("torch")  # of which every stage makes use, and which never becomes garbage
        give_back_memory()  # of what stages before have forgotten
        with guarded(f"code of the model, in {task.name},"), running(f"in {task.name}"):
            value = task.run()
        self.remembered.note_number(_duration_name(task), round(time.perf_counter() - start, 1))
        packed = task.pack(value, Packing(key=key, inputs=inputs, objects=self.store.objects))
        record, objects = dump(packed.facts, self.store.objects)
        action = ActionResult(
            stage=task.name,
            key=key,
            inputs=inputs,
            output=packed.output,
            line=task.describe(value),
            record=record,
            objects={**packed.objects, **objects},
            seconds=time.perf_counter() - start,
        )
        self.remembered.forget()
        now = self.inputs(task.name, task.spec, task.after)
        if changed := sorted(name for name in {**now, **inputs} if now.get(name) != inputs.get(name)):
            how = "changed" if changed[0] in inputs else "is found only since its folder was put on `sys.path`"
            message = f"{changed[0]} {how} while {task.name} ran: its result is not stored"
            self._progress.warn(message, code="B0005")
        elif task.is_storable(value):
            self.store.put(action)
        return value, action, packed.facts

    def close(self) -> None:
        """Save what was learnt about files, and leave the collector as it was."""
        self.remembered.save()
        if self._is_frozen:
            gc.unfreeze()

    def _found(self, task: StageTask[Value, Facts], key: str) -> tuple[ActionResult, Facts] | None:
        found = self.find(task.name, key, task.facts)
        if found is not None and not task.is_current(found[1]):
            self._progress.detail(f"{task.name} fell back to untrained weights; it is tried again")
            return None
        return found

    def _done(
        self, stage: Stage[Value, Facts], task: StageTask[Value, Facts], start: float, *, cached: bool
    ) -> Stage[Value, Facts]:
        seconds, action = time.perf_counter() - start, stage.action
        self._reports.append(
            StageReport(name=task.label, key=action.key, cached=cached, seconds=seconds, result=action.line)
        )
        if not self.is_peek:
            self._progress.end(task.label, seconds, action.line, cached=cached)
            self._progress.detail(f"{task.label}: key {action.key}, result {action.output}")
        return stage


def _duration_name(task: StageTask[Any, Any]) -> str:
    """What the time of a stage is noted under: another source takes another time, most other settings do not."""
    return f"seconds {task.label} {digest_of(redacted_values(task.spec.source.model_dump(mode='json')))}"


def open_runner(progress: Progress, remote: Remote | None = None, *, peek: bool = False) -> StageRunner:
    """A runner over the user's store, with the remote one behind it."""
    store = Store(_store_folder(), progress, remote)
    return StageRunner(progress, store, StatCache(store.root.parent / "remembered.json"), peek=peek)


@contextmanager
def remote_store(progress: Progress) -> Iterator[Remote | None]:
    """The remote store behind the user's, if there is one; in the end a process of its own sends what waits for it."""
    if not os.environ.get("BUILDER_REMOTE"):
        yield None
        return
    from builder.store.remote.remote import open_remote

    remote = open_remote(_store_folder(), progress)
    try:
        yield remote
    finally:
        if remote is not None:
            remote.close(send=not isinstance(sys.exception(), KeyboardInterrupt))


def _store_folder() -> Path:
    return Path(cache_folder()) / "store"
