"""A running search: asks the study for settings, builds them as jobs of a sweep, and tells what came of each."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from builder.artifacts.stages import BuildRequest
from builder.jobs import outcomes
from builder.jobs.display import Display
from builder.jobs.jobs import Exit, Job, Outcome, Task
from builder.jobs.scheduler import Interruption, Launcher, Scheduler
from builder.progress import BOUNDS_VARIABLE
from builder.search.pruning import PruningLauncher
from builder.search.settings import Search
from builder.search.space import arguments_of
from builder.search.study import PendingTrial, Study
from builder.search.table import render_csv
from builder.search.tracking import trial_run
from builder.search.trials import Trial, finished
from builder.tracking.run import TrackedRun
from builder.util import paths

TABLE, LOGS = "trials.csv", "logs"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a search runs."""

    outputs: Path
    folder: Path
    """Its own, with the study, the tables and the logs."""
    identifier: str
    """The tag `sweep_id` of its runs in MLflow."""
    options: tuple[str, ...] = ()
    """Options of every build."""


class SearchRun:
    """The state of a running search."""

    def __init__(
        self,
        study: Study,
        search: Search,
        place: Place,
        *,
        job_of: Callable[[int, Sequence[str]], Job],
        launcher: Launcher,
        display: Display,
        record: Callable[[TrackedRun, BuildRequest], None],
    ) -> None:
        """Prepare.

        `job_of` composes the trial of a number with the arguments that its point adds to the recipe; `record` takes
        the run of a trial whose build could not record itself.
        """
        self._study = study
        self._search = search
        self._place = place
        self._job_of = job_of
        self._display = display
        self._record = record
        self._launcher = PruningLauncher(launcher, search, study.trials, self._bounds)
        self._asked: dict[int, PendingTrial] = {}
        self.done = 0
        """How many trials were finished now."""

    def run(self) -> bool:
        """Run trials until there are enough; returns False when it was interrupted."""
        (self._place.folder / LOGS).mkdir(parents=True, exist_ok=True)
        launcher: Launcher = self._launcher if self._search.prune else self._launcher.unpruned
        scheduler = Scheduler(
            launcher=launcher,
            listener=self,
            task_of=self._task,
            interruption=Interruption(),
            more=self._more,
        )
        try:
            return scheduler.run([])
        finally:
            launcher.close()

    def _more(self) -> Sequence[Job]:
        """The next trial; those whose settings do not go together are told at once."""
        while (asked := self._study.ask()) is not None:
            job = self._job_of(asked.number, arguments_of(self._search.space, asked.point))
            self._asked[asked.number] = asked
            if job.request is not None:
                self._bounds(job).unlink(missing_ok=True)
                return [job]
            self._take(outcomes.refused(job))
        return ()

    def started(self, job: Job) -> None:
        """A trial begins."""
        self._display.started(job)

    def at(self, job: Job, stage: str) -> None:
        """A trial is at this stage."""
        self._display.at(job, stage)

    def warned(self, job: Job, message: str) -> None:
        """A trial warns."""
        self._display.warned(job, message)

    def ended(self, job: Job, exit: Exit, *, stopped: bool) -> None:
        """A trial has ended; one that was interrupted stays open, for the search to take up when it is resumed."""
        task = self._task(job)
        pruned = self._launcher.reasons.get(job.number)
        outcome = outcomes.outcome_of(job, exit, task, self._place.outputs, stopped=stopped)
        Path(task.out).unlink(missing_ok=True)
        self._bounds(job).unlink(missing_ok=True)
        if outcome.status == "interrupted" and pruned is None:
            self._display.ended(outcome)
        else:
            self._take(outcome, pruned)

    def _take(self, outcome: Outcome, pruned: str | None = None) -> None:
        """Tell the study and people how a trial ended."""
        number = outcome.job.number
        asked = self._asked.pop(number)
        trial = finished(number, asked.point, outcome, self._search, pruned=pruned)
        self._study.tell(asked, trial)
        if (request := outcome.job.request) is not None and outcome.document is None and not outcome.succeeded:
            study, identifier = self._place.folder.name, self._place.identifier
            self._record(trial_run(trial, request, study=study, identifier=identifier, ended=time.time()), request)
        self.done += 1
        self._display.ended(outcome if trial.state == "complete" else _as_reported(outcome, trial))
        text = render_csv(self._study.trials(), self._search)
        paths.write_atomically(self._place.folder / TABLE, text)

    def _bounds(self, job: Job) -> Path:
        return self._place.folder.absolute() / LOGS / f"{self._name(job)}.bounds"

    def _name(self, job: Job) -> str:
        return str(job.number).zfill(4)

    def _task(self, job: Job) -> Task:
        """The process of a trial: an ordinary build, which is asked to tell its bounds."""
        environment = {"BUILDER_SWEEP_ID": self._place.identifier}
        if self._search.prune:
            environment[BOUNDS_VARIABLE] = str(self._bounds(job))
        if self._launcher.threads is not None and "OMP_NUM_THREADS" not in os.environ:
            environment["OMP_NUM_THREADS"] = str(self._launcher.threads)
        logs = self._place.folder.absolute() / LOGS
        outputs, options = str(self._place.outputs), self._place.options
        return Task(
            command=(sys.executable, "-m", "builder", *job.arguments, "--outputs", outputs, *options),
            folder=str(Path.cwd()),
            environment=environment,
            log=str(logs / f"{self._name(job)}.log"),
            out=str(logs / f"{self._name(job)}.out"),
        )


def _as_reported(outcome: Outcome, trial: Trial) -> Outcome:
    """The outcome with the search's own word for it."""
    status = trial.state if trial.state in ("pruned", "infeasible") else outcome.status
    return replace(outcome, status=status, message=trial.reason)
