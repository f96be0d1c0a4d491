"""Runs stages one after the other, or takes their results from the store, and keeps what each did."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

from builder.artifacts import StageReport
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.functions import labelled
from builder.store import fallback
from builder.store.actions import ActionResult, Store
from builder.store.digests import StatCache
from builder.store.inputs import stage_inputs
from builder.store.keys import stage_key
from builder.store.objects import CorruptError, Objects
from builder.util.child import doing as running
from builder.util.memory import give_back_memory
from builder.util.process_state import guarded

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A result as the store keeps it."""

    output: str
    """A digest of the result's meaning, for the keys of later stages."""
    record: Mapping[str, Any]
    objects: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What a result is packed with."""

    key: str
    inputs: Mapping[str, Any]
    objects: Objects


@dataclass(frozen=True, kw_only=True)
class StageTask(Generic[Result]):
    """How one stage is run, put into the store and taken out of it."""

    name: str
    run: Callable[[], Result]
    say: Callable[[Result], str]
    """Makes the line that people read."""
    pack: Callable[[Result, Packing], Packed]
    unpack: Callable[[Stage[Result]], Result]
    """Restores a result; `Stage.again` where the store does not keep what cannot be kept, such as a module."""
    after: Mapping[str, str] = field(default_factory=dict)
    """Digests of the results that the stage takes, by a readable name."""
    keep: Callable[[Result], bool] = lambda _: True
    """Whether the result may be stored: failures are not."""


class CacheMissError(Exception):
    """A stage has no stored result, and nothing shall be run now."""

    def __init__(self, stage: str, key: str, inputs: Mapping[str, Any]) -> None:
        super().__init__(stage)
        self.stage, self.key, self.inputs = stage, key, inputs


class UnstableStageError(Exception):
    """A stage that was run again gave something else than the store said: the result must be told from its start."""


class Stage(Generic[Result]):
    """A stage that is done: its digest and record are at hand; its value is made when somebody needs it."""

    def __init__(self, work: StageTask[Result], action: ActionResult, runner: StageRunner) -> None:
        self.action = action
        self._work, self._runner = work, runner
        self._value: Result | None = None

    @property
    def output(self) -> str:
        """The digest of the result."""
        return self.action.output

    @property
    def record(self) -> Mapping[str, Any]:
        """What the stage tells in plain values."""
        return self.action.record

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

    def value(self) -> Result:
        """Return the result: of this run, restored, or made again."""
        if self._value is None:
            try:
                self._value = self._work.unpack(self)
            except CorruptError as error:
                self._runner.store.drop(self.action, str(error))
                self._value = self.again()
        return self._value

    @property
    def held(self) -> Result | None:
        """The result, if it is at hand without any work."""
        return self._value

    def hold(self, value: Result) -> None:
        """Keep the result that this run has made."""
        self._value = value

    def forget(self) -> None:
        """Let go of the result, which is made again should somebody need it after all."""
        self._value = None

    def again(self) -> Result:
        """Run the stage again; raises UnstableStageError when it gives something else than the store said."""
        inputs = self._runner.inputs(self._work.name, self._work.after)  # those that are stored have no secrets
        value, action = self._runner.run(self._work, self.action.key, inputs)
        if action.output != self.action.output:
            self._runner.store.drop(self.action, "it gives something else now")
            raise UnstableStageError(self._work.name)
        return value


class StageRunner:
    """The stages of one build so far. With `peek` nothing is run: the first stage without a result raises."""

    def __init__(
        self, spec: BuildSpec, progress: Progress, store: Store, remembered: StatCache, *, peek: bool = False
    ) -> None:
        self.store = store
        self.remembered = remembered
        self.is_peek = peek
        self._spec = spec
        self._progress = progress
        self._function = ""
        self._reports: list[StageReport] = []

    def of_function(self, name: str, spec: BuildSpec) -> Self:
        """Return a runner for the stages of one function, whose recipe is `spec`; they are reported in this one."""
        own = copy.copy(self)
        own._spec, own._function = spec, name
        return own

    def decide(self, spec: BuildSpec) -> None:
        """Go on with a spec in which nothing is open any more."""
        self._spec = spec

    @property
    def reports(self) -> tuple[StageReport, ...]:
        """What the stages so far did, in order."""
        return tuple(self._reports)

    def inputs(self, stage: str, after: Mapping[str, str]) -> dict[str, Any]:
        """Everything that the key of a stage is made of."""
        return stage_inputs(stage, self._spec, self.remembered) | {f"after {n}": d for n, d in after.items()}

    def stage(self, work: StageTask[Result]) -> Stage[Result]:
        """Return a stage that is done: found in the store, or run now by one process of all that want it."""
        if not self.is_peek:
            self._progress.begin(labelled(work.name, self._function))
        start = time.perf_counter()
        inputs = self.inputs(work.name, work.after)
        key = stage_key(work.name, inputs)
        action = self._find(work.name, key)
        if action is not None:
            return self._done(Stage(work, action, self), action, start, cached=True)
        if self.is_peek:
            raise CacheMissError(work.name, key, inputs)
        with self.store.alone(work.name, key):
            action = self._find(work.name, key)
            if action is not None:
                return self._done(Stage(work, action, self), action, start, cached=True)
            value, action = self.run(work, key, inputs)
        stage = Stage(work, action, self)
        stage.hold(value)
        return self._done(stage, action, start, cached=False)

    def run(self, work: StageTask[Result], key: str, inputs: Mapping[str, Any]) -> tuple[Result, ActionResult]:
        """Run a stage and store what it gave, unless that is a failure or an input changed meanwhile."""
        start = time.perf_counter()
        give_back_memory()  # of what stages before have forgotten
        with guarded(f"code of the model, in {work.name},"), running(f"in {work.name}"):
            value = work.run()
        packed = work.pack(value, Packing(key=key, inputs=inputs, objects=self.store.objects))
        action = ActionResult(
            stage=work.name,
            key=key,
            inputs=inputs,
            output=packed.output,
            line=work.say(value),
            record=packed.record,
            objects=packed.objects,
            seconds=time.perf_counter() - start,
        )
        self.remembered.forget()
        now = self.inputs(work.name, work.after)
        if changed := sorted(name for name in {**now, **inputs} if now.get(name) != inputs.get(name)):
            self._progress.warn(f"{changed[0]} changed while {work.name} ran: its result is not kept")
        elif work.keep(value):
            self.store.put(action)
        return value, action

    def _find(self, stage: str, key: str) -> ActionResult | None:
        action = self.store.find(stage, key)
        if action is not None and not fallback.still_offline(action.record.get("fallback")):
            self._progress.detail(f"{stage} fell back to untrained weights; it is tried again")
            return None
        return action

    def _done(self, stage: Stage[Result], action: ActionResult, start: float, *, cached: bool) -> Stage[Result]:
        seconds = time.perf_counter() - start
        name = labelled(action.stage, self._function)
        self._reports.append(StageReport(name=name, key=action.key, cached=cached, seconds=seconds, result=action.line))
        if not self.is_peek:
            self._progress.end(name, seconds, action.line, cached=cached)
            self._progress.detail(f"{name}: key {action.key}, result {action.output}")
        return stage
