"""A sweep (`-m`): composes every job, runs them in processes of their own, and tells at the end what became of each."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from builder.artifacts.stages import BuildRequest
from builder.cli.sweep_settings import is_setting, read_settings
from builder.config.compose import compose, sweep
from builder.config.folders import open_library
from builder.config.variants import names_variants, read_variants
from builder.engine.plan import current_artifact
from builder.errors import ConfigurationError, UnfitEnvironmentError
from builder.jobs import outcomes
from builder.jobs.display import Display
from builder.jobs.jobs import Exit, Job, Outcome, Task
from builder.jobs.launchers import launcher_for
from builder.jobs.memory import weights_bytes
from builder.jobs.scheduler import Interruption, Scheduler
from builder.jobs.settings import SweepSettings
from builder.jobs.table import render_csv, row_of
from builder.progress import Silent
from builder.spec.source_kinds import kind_of
from builder.store.inputs import named_in
from builder.sweep.prefixes import prefixes
from builder.sweep.run import summary_run, trackings
from builder.tracking import track_run
from builder.util import paths
from builder.util.locations import shown

SWEEPS = "sweeps"
"""The folder of outputs that holds a folder for each sweep, and `peaks.json`."""
TABLE = "sweep.csv"
WORKER = (sys.executable, "-m", "builder.cli.sweep_worker")
"""What jobs of this machine are forked from."""


def run_sweep(arguments: Sequence[str], *, outputs: Path, verbosity: int, paranoid: bool = False) -> int:
    """Build every job; returns the exit code of the first that failed. Nothing is built if all are wrong."""
    named = [argument for argument in arguments if names_variants(argument)]
    settings = read_settings([argument for argument in arguments if is_setting(argument) and argument not in named])
    given = [argument for argument in arguments if not is_setting(argument)]
    variants = read_variants(named, open_library()) or {"": ()}
    jobs, refusals = _jobs([(name, line) for name, more in variants.items() for line in sweep([*given, *more])])
    if len(refusals) == len(jobs):
        raise refusals[0]
    with Display(jobs=len(jobs), verbosity=verbosity, stream=sys.stderr) as display:
        options = [*["-v"] * verbosity, *["--paranoid"] * paranoid]
        running = _Sweep(given, jobs, outputs=outputs, settings=settings, options=options, display=display)
        finished = running.run()
    display.table([row_of(outcome) for outcome in running.outcomes])
    display.say(f"table and logs: {shown(running.folder)}")
    for outcome in running.outcomes:
        if outcome.succeeded:
            print(outcome.artifact)
    failed = next((outcome.exit_code for outcome in running.outcomes if not outcome.succeeded), 0)
    code = failed if finished else outcomes.INTERRUPTED
    return code or running.tracking_code


def run_jobs(jobs: Sequence[Job], arguments: Sequence[str], *, outputs: Path, verbosity: int) -> list[Outcome]:
    """Build composed jobs side by side, as a sweep does; returns what became of each, in their order."""
    if all(job.request is None for job in jobs):
        return [outcomes.refused(job) for job in jobs]
    with Display(jobs=len(jobs), verbosity=verbosity, stream=sys.stderr) as display:
        running = _Sweep(arguments, jobs, outputs=outputs, settings=read_settings([]), options=(), display=display)
        running.run()
    return running.outcomes


def _jobs(lines: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[list[Job], list[ConfigurationError]]:
    """Compose every job, of a variant's name and arguments; those that are wrong are jobs too, with their reason."""
    composed = []
    for number, (name, arguments) in enumerate(lines, start=1):
        alike = [other for variant, other in lines if variant == name]
        label = name if name and len(alike) == 1 else f"{name} {_label(arguments, alike)}".strip()
        job, refusal = composed_job(number, arguments, label)
        composed.append((replace(job, name=label if name else ""), refusal))
    return [job for job, _ in composed], [refusal for _, refusal in composed if refusal is not None]


def composed_job(number: int, arguments: tuple[str, ...], label: str) -> tuple[Job, ConfigurationError | None]:
    """Return a job with what it builds, or with the reason why its arguments are wrong."""
    try:
        request = compose(arguments)
    except ConfigurationError as error:
        return Job(number=number, arguments=arguments, label=label, request=None, refusal=error.message), error
    job = Job(
        number=number,
        arguments=arguments,
        label=label,
        request=request,
        prefixes=prefixes(request.spec),
        weights_bytes=_weights_bytes(request),
    )
    return job, None


def _label(arguments: Sequence[str], all_arguments: Sequence[Sequence[str]]) -> str:
    """The arguments in which this job differs from another one; all of them where none does."""
    varying = [a for i, a in enumerate(arguments) if any(other[i] != a for other in all_arguments)]
    return " ".join(varying or arguments)


def _weights_bytes(request: BuildRequest) -> int | None:
    files = [Path(entry.text) for entry in named_in(request.spec, ("source",)) if not entry.is_code]
    source = request.spec.source
    return weights_bytes(files, getattr(source, "name", None) if kind_of(source).has_known_size else None)


def _is_all_current(jobs: Sequence[Job], outputs: Path) -> bool:
    """Whether no job will build anything: then a process that has imported everything would be made for nothing."""
    return all(job.request is not None and current_artifact(job.request, outputs=outputs) for job in jobs)


class _Sweep:
    """A running sweep: gives each job its process, listens, and keeps the table on disk up to date."""

    def __init__(
        self,
        arguments: Sequence[str],
        jobs: Sequence[Job],
        *,
        outputs: Path,
        settings: SweepSettings,
        options: Sequence[str],
        display: Display,
    ) -> None:
        self._arguments = arguments
        self._jobs = jobs
        self._outputs = outputs
        self._display = display
        self._options = options
        self._began = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._began))
        self.identifier = f"{stamp}-{secrets.token_hex(2)}"
        self.folder = outputs / SWEEPS / self.identifier
        sound = [job for job in jobs if job.request is not None]
        self._launcher = launcher_for(
            settings,
            jobs=len(sound),
            folder=self.folder,
            peaks=outputs / SWEEPS / "peaks.json",
            worker=None if _is_all_current(sound, outputs) else WORKER,
        )
        with paths.writing(outputs):
            self.folder.mkdir(parents=True, exist_ok=True)  # submitit may have made it
        self._ended: dict[int, Outcome] = {}
        self.tracking_code = 0

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of every job, in the order of the command line."""
        return [self._ended.get(job.number) or outcomes.not_started(job) for job in self._jobs]

    def run(self) -> bool:
        """Run all jobs, then record the sweep; returns False when it was interrupted."""
        for job in self._jobs:
            if job.request is None:
                self._take(outcomes.refused(job))
        self._write_table()
        scheduler = Scheduler(launcher=self._launcher, listener=self, task_of=self._task, interruption=Interruption())
        try:
            finished = scheduler.run([job for job in self._jobs if job.request is not None])
        finally:
            self._launcher.close()
        self._write_table()
        self._track()
        return finished

    def started(self, job: Job) -> None:
        """A job begins."""
        self._display.started(job)

    def at(self, job: Job, stage: str) -> None:
        """A job is at this stage."""
        self._display.at(job, stage)

    def warned(self, job: Job, message: str) -> None:
        """A job warns."""
        self._display.warned(job, message)

    def ended(self, job: Job, exit: Exit, *, stopped: bool) -> None:
        """A job has ended: read what it left, before another job may replace it."""
        task = self._task(job)
        self._take(outcomes.outcome_of(job, exit, task, self._outputs, stopped=stopped))
        Path(task.out).unlink(missing_ok=True)
        self._write_table()

    def _take(self, outcome: Outcome) -> None:
        self._ended[outcome.job.number] = outcome
        self._display.ended(outcome)

    def _task(self, job: Job) -> Task:
        """The process of a job. It tells every stage, whatever we show of it, since its log keeps that."""
        name = str(job.number).zfill(len(str(len(self._jobs))))
        environment = {"BUILDER_SWEEP_ID": self.identifier}
        if self._launcher.threads is not None and "OMP_NUM_THREADS" not in os.environ:
            environment["OMP_NUM_THREADS"] = str(self._launcher.threads)
        return Task(
            command=(sys.executable, "-m", "builder", *job.arguments, "--outputs", str(self._outputs), *self._options),
            folder=str(Path.cwd()),
            environment=environment,
            log=str(self.folder.absolute() / f"{name}.log"),
            out=str(self.folder.absolute() / f"{name}.out"),
        )

    def _write_table(self) -> None:
        paths.write_atomically(self.folder / TABLE, render_csv([row_of(outcome) for outcome in self.outcomes]))

    def _track(self) -> None:
        """Record the sweep where its jobs are recorded, unless it changed nothing."""
        rows = [row_of(outcome) for outcome in self.outcomes]
        if all(row.outcome.status == "up to date" for row in rows):
            return
        run = summary_run(
            rows, sweep_id=self.identifier, arguments=self._arguments, started=self._began, ended=time.time()
        )
        for tracking in trackings(rows):
            try:
                track_run(
                    run, tracking, files=[self.folder / TABLE], outputs=self._outputs, progress=Warnings(self._display)
                )
            except UnfitEnvironmentError as error:
                self._display.warn(error.message, code=error.code)
                self.tracking_code = error.exit_code


class Warnings(Silent):
    """Shows warnings only."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def warn(self, message: str, *, code: str) -> None:
        """Show a warning."""
        self._display.warn(message, code=code)
