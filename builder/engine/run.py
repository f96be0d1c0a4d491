"""The running state of a build: what its stages have given so far, and the loop that goes through them.

The order of the stages, and what each reads, is data: `builder.engine.table`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from builder.artifacts.stages import BuildRequest, ExampleInputs
from builder.backends import backend_of
from builder.backends.interface import Backend
from builder.engine.runner import (
    Packed,
    Packing,
    Stage,
    StageRunner,
    StageTask,
    UnstableStageError,
    open_runner,
    remote_store,
)
from builder.progress import Progress, Silent
from builder.spec import BuildSpec
from builder.spec.functions import specs_by_function
from builder.store.actions import Store
from builder.store.inputs import spec_view
from builder.util.paths import artifact_name

Value = TypeVar("Value")
Facts = TypeVar("Facts")

Result = TypeVar("Result")

Scope = Literal["build", "function"]
"""Whether a stage runs once for a build, or once for each function of its artifact."""


class Step(Protocol):
    """One row of the table of stages, or several that belong together."""

    @property
    def names(self) -> tuple[str, ...]:
        """The stages that it runs."""

    @property
    def scope(self) -> Scope:
        """How often it runs."""

    def applies(self, spec: BuildSpec) -> bool:
        """Whether a recipe has it."""

    def execute(self, run: Run) -> None:
        """Find or run its stages, and put their results into `run`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StageRow(Generic[Value, Facts]):
    """A stage of the table; in a run it is the key of its result."""

    name: str
    scope: Scope
    reads: tuple[StageRow[Any, Any], ...]
    """The stages whose results it takes; reading another one is a fault."""
    task: Callable[[Inputs], StageTask[Value, Facts]]
    applies: Callable[[BuildSpec], bool] = lambda _: True
    then: Callable[[Run, Stage[Value, Facts]], None] = lambda _run, _stage: None
    """What is done with the result before the next stage."""

    @property
    def names(self) -> tuple[str, ...]:
        """The one stage."""
        return (self.name,)

    def execute(self, run: Run) -> None:
        """Find or run the stage, unless this run has its result from another one."""
        if self not in run.results:
            stage = run.context.runner.stage(self.task(Inputs(run, self)))
            run.results[self] = stage
            self.then(run, stage)


def busy_seconds() -> float:
    """How much processor time this process took, and its children that ended."""
    return sum(os.times()[:4])


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What stays as it is while a build runs."""

    table: tuple[Step, ...]
    request: BuildRequest
    progress: Progress
    runner: StageRunner
    folder: Path
    """Where the artifact is written."""
    started: float = field(default_factory=lambda: busy_seconds())
    """When the build began, in seconds of the processor."""

    def quiet(self) -> RunContext:
        """The same for a build that is only tried: without a word, and without measuring each compression step."""
        runner = StageRunner(
            Silent(), Store(self.runner.store.root, Silent(), self.runner.store.remote), self.runner.remembered
        )
        table = tuple(step for step in self.table if "measure" not in step.names)
        return replace(self, table=table, runner=runner, progress=Silent())

    @property
    def artifact(self) -> Path:
        """Where the sealed artifact lies."""
        return self.folder / artifact_name(self.request.recipe, self.request.spec.format)


class Run:
    """The results so far of a build, or of one function of its artifact."""

    def __init__(
        self,
        context: RunContext,
        *,
        spec: BuildSpec | None = None,
        function: str = "",
        whole: Run | None = None,
    ) -> None:
        self.context = context
        self.spec = context.request.spec if spec is None else spec
        self.function = function
        self.whole = whole
        self.results: dict[StageRow[Any, Any], Stage[Any, Any]] = {}
        self.failures: Mapping[str, str] = {}
        """Why the methods of capture that were tried first did not work."""
        self.method = ""
        """The method of capture that is tried, or did it."""
        self.between: Sequence[Any] | None = None
        """What each compression step but the last made, where that is at hand."""

    def __getitem__(self, row: StageRow[Value, Facts]) -> Stage[Value, Facts]:
        """The result of a stage that is done; of one that runs for each function, in a build, the first's."""
        for run in (self, self.whole, self.first if row.scope == "function" else None):
            if run is not None and row in run.results:
                return run.results[row]
        raise KeyError(f"{row.name} has not run")

    @cached_property
    def functions(self) -> Mapping[str, Run]:
        """By name: the runs of the artifact's functions; one under an empty name where it has none."""
        if self.whole is not None:
            return {self.function: self}
        specs = specs_by_function(self.spec)
        return {name: Run(self.context, spec=spec, function=name, whole=self) for name, spec in specs.items()}

    @property
    def first(self) -> Run:
        """The artifact without functions, or the function that an app gets when it names none."""
        return next(iter(self.functions.values()))

    @cached_property
    def examples(self) -> ExampleInputs:
        """The seeded samples, made once."""
        from builder.data import make_examples

        if self.whole is not None and self.spec.input == self.whole.spec.input:
            return self.whole.examples
        return make_examples(spec_view("load", self.spec))

    @property
    def backend(self) -> Backend:
        """What makes the recipe's format."""
        return backend_of(self.spec.format)

    def decide(self, spec: BuildSpec) -> None:
        """Go on with a spec in which nothing is open any more."""
        self.spec = spec
        specs = specs_by_function(spec)
        for name, run in self.functions.items():
            run.spec = specs[name]

    def advance(self, *, until: StageRow[Any, Any] | None = None) -> Run:
        """Go through the table: each stage is found in the store, or run. Stop behind `until`.

        Raises what stages raise, UnstableStageError where the build must start over, and CacheMissError where nothing
        shall run.
        """
        names = [step.names for step in self.context.table]
        last = len(names) if until is None else next(i for i, each in enumerate(names) if until.name in each) + 1
        for scope, steps in groupby(self.context.table[:last], key=lambda step: step.scope):
            group = list(steps)
            for run in (self,) if scope == "build" else tuple(self.functions.values()):
                for step in group:
                    if step.applies(run.spec):
                        step.execute(run)
        return self


class Inputs:
    """A run as one stage may read it: of other stages, only those that its row names."""

    def __init__(self, run: Run, row: StageRow[Any, Any]) -> None:
        self.run = run
        self._row = row

    def __getitem__(self, row: StageRow[Value, Facts]) -> Stage[Value, Facts]:
        """The result of a stage that this one reads."""
        self._check(row)
        return self.run[row]

    def by_function(self, row: StageRow[Value, Facts]) -> Mapping[str, Stage[Value, Facts]]:
        """The results of a stage for each function of the artifact."""
        self._check(row)
        return {name: run[row] for name, run in self.run.functions.items()}

    def _check(self, row: StageRow[Any, Any]) -> None:
        if row not in self._row.reads:
            raise AssertionError(f"the table does not say that {self._row.name} reads {row.name}")

    @property
    def spec(self) -> BuildSpec:
        """The part of the recipe that is in the stage's key; reading more raises AttributeError."""
        return spec_view(self._row.name, self.run.spec)

    def task(
        self,
        facts: type[Facts],
        *,
        run: Callable[[], Value],
        describe: Callable[[Value], str],
        pack: Callable[[Value, Packing], Packed[Facts]],
        restore: Callable[[Stage[Value, Facts]], Value],
        after: Mapping[str, str] | None = None,
        is_storable: Callable[[Value], bool] = lambda _: True,
        is_current: Callable[[Facts], bool] = lambda _: True,
    ) -> StageTask[Value, Facts]:
        """The stage as the runner takes it."""
        return StageTask(
            name=self._row.name,
            spec=self.run.spec,
            function=self.run.function,
            facts=facts,
            run=run,
            describe=describe,
            pack=pack,
            restore=restore,
            after=after or {},
            is_storable=is_storable,
            is_current=is_current,
        )


def until_stable(progress: Progress, body: Callable[[StageRunner], Result], *, peek: bool = False) -> Result:
    """Do `body` with a runner over the user's store, from the start each time a stage gives something else than before.

    What such a stage gave before is dropped from the store, so this ends.
    """
    with remote_store(progress) as remote:
        while True:
            runner = open_runner(progress, remote, peek=peek)
            try:
                return body(runner)
            except UnstableStageError as error:
                progress.detail(f"{error} gave something else than before: starting over")
            finally:
                runner.close()


def stage_names(table: Sequence[Step], spec: BuildSpec) -> Iterator[str]:
    """The stages that a recipe has, in order."""
    for step in table:
        if step.applies(spec):
            yield from step.names
