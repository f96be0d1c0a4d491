"""`python -m builder search recipe=… search=…`: builds with many settings, and finds those that nothing beats."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from builder.artifacts.stages import BuildRequest
from builder.cli.arguments import Parser, outputs_folder, verbosity
from builder.util import paths
from builder.util.locations import shown
from builder.util.redact import redacted_values

if TYPE_CHECKING:
    from builder.jobs.jobs import Job
    from builder.jobs.settings import SweepSettings
    from builder.search.configuration import ReadSearch
    from builder.search.trials import Trial
    from builder.tracking.run import TrackedRun

DESCRIPTION = """Build a recipe with many settings, and find those that nothing beats.

What varies and what is better stands in an option of `conf/search/` (see docs/guide/search.md). Every trial is an
ordinary build. A search that was stopped or killed goes on when the same command is given again. The winner becomes a
recipe, whose path is the last line on stdout.

  python -m builder search recipe=digits_mobilenet search=classifier target=ios16
  python -m builder search recipe=digits_mobilenet search=classifier target=ios16 search.trials=60
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("search", DESCRIPTION, usage="search recipe=NAME [search=NAME] [key=value …] [options]")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="the recipe, the search, and changes of both")
    made.add_argument("--outputs", default="outputs", metavar="FOLDER", help="where artifacts go (default: outputs)")
    made.add_argument("--output", metavar="FILE", help="the winner's recipe (default: recipes/RECIPE_SEARCH.yaml)")
    return made


def run(arguments: Sequence[str]) -> int:
    """Search; returns the exit code."""
    given = parser().read(arguments)
    outputs = outputs_folder(given)
    from builder.cli.sweep_settings import is_setting
    from builder.config.folders import open_library
    from builder.search.configuration import is_about_search, read_search

    about_builds = [a for a in given.overrides if not is_about_search(a) and not is_setting(a)]
    read = read_search([a for a in given.overrides if is_about_search(a)], open_library())
    request = _base(about_builds, read)
    settings = _launcher_settings([a for a in given.overrides if is_setting(a)], read.search.jobs)
    name = read.search.name or read.option
    variant = "" if request.variant == "default" else f",{request.variant}"
    folder = outputs / SEARCHES / request.recipe / f"{name}{variant}"
    from builder.cli.search_winner import winner_file
    from builder.util.locks import exclusive

    winner = winner_file(given.output, f"{request.recipe}_{name}", folder)
    with paths.writing(outputs):
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with paths.writing(outputs):
            stack.enter_context(exclusive(folder / "search.lock", on_wait=_say_waiting))
        return _Session(
            request=request,
            arguments=about_builds,
            read=read,
            settings=settings,
            outputs=outputs,
            folder=folder,
            winner_file=winner,
            verbosity=verbosity(given),
        ).run()


def _say_waiting() -> None:
    print("waiting: this search is running", file=sys.stderr)


SEARCHES = "search"
"""The folder of outputs that holds a folder for each recipe that was searched, with one for each study."""


def _base(arguments: Sequence[str], read: ReadSearch) -> BuildRequest:
    """The build that all trials begin with; raises DiagnosticsError where it or the search for it is wrong."""
    from builder.config.compose import compose
    from builder.config.derived import deletions
    from builder.config.folders import open_library
    from builder.config.hydra.overrides import read_command_line
    from builder.diagnostics.render import DiagnosticsError
    from builder.search.problems import search_problems

    library = open_library()
    request = compose(arguments)
    findings = [
        *search_problems(read, arguments, request.spec, library),
        *deletions(read_command_line(arguments, library)),
    ]
    if findings:
        raise DiagnosticsError(findings)
    return request


def _launcher_settings(arguments: Sequence[str], jobs: int) -> SweepSettings:
    from builder.cli.sweep_settings import read_settings
    from builder.diagnostics.render import DiagnosticsError
    from builder.diagnostics.spans import command_line_span
    from builder.errors import Diagnostic

    for argument in arguments:
        if argument.partition("=")[0] == "sweep.jobs":
            hint = "how many trials run at a time is `search.jobs`"
            span = command_line_span(argument)
            raise DiagnosticsError(
                [Diagnostic(code="B0231", path=("sweep", "jobs"), message="is about a sweep", span=span, hint=hint)]
            )
    return read_settings([*arguments, f"sweep.jobs={jobs}"])


class _Session:
    """One run of the verb on a study that it has for itself."""

    def __init__(
        self,
        *,
        request: BuildRequest,
        arguments: Sequence[str],
        read: ReadSearch,
        settings: SweepSettings,
        outputs: Path,
        folder: Path,
        winner_file: Path,
        verbosity: int,
    ) -> None:
        from builder.cli.sweep import WORKER
        from builder.jobs.display import Display
        from builder.jobs.launchers import launcher_for
        from builder.search.study import FILE, Study

        self._request = request
        self._arguments = tuple(arguments)
        self._read = read
        self._search = read.search
        self._outputs = outputs
        self._folder = folder
        self._winner_file = winner_file
        self._verbosity = verbosity
        self._began = time.time()
        self._study = Study(folder / FILE, read.search, self._identity())
        self._display = Display(jobs=read.search.trials, verbosity=verbosity, stream=sys.stderr)
        peaks = outputs / "sweeps" / "peaks.json"
        with paths.writing(outputs):
            peaks.parent.mkdir(parents=True, exist_ok=True)
        self._launcher = launcher_for(settings, jobs=read.search.trials, folder=folder, peaks=peaks, worker=WORKER)

    def _identity(self) -> dict[str, object]:
        """What must stay the same for trials of one study to be comparable."""
        search = self._search.model_dump(include={"space", "objectives", "constraints"})
        arguments = redacted_values(sorted(self._arguments))
        return {**search, "inputs": _inputs_digest(self._request), "arguments": arguments}

    def run(self) -> int:
        """Run what is left to do, and write what is known."""
        from builder.search.front import front_of, winner_of
        from builder.search.run import Place, SearchRun
        from builder.search.study import identifier_of

        identifier = identifier_of(self._study, self._began)
        options = tuple(["-v"] * self._verbosity)
        place = Place(outputs=self._outputs, folder=self._folder, identifier=identifier, options=options)
        with self._display:
            self._report_resumed()
            running = SearchRun(
                self._study,
                self._search,
                place,
                job_of=self._job,
                launcher=self._launcher,
                display=self._display,
                record=self._record,
            )
            finished = running.run()
        trials = self._study.trials()
        front = front_of(trials, self._search.objectives)
        winner = winner_of(front, self._search)
        files = self._write(trials, front, winner)
        code = 0 if front else next((t.exit_code for t in trials if t.exit_code), 5)
        if running.done:
            code = code or self._track(trials, front, winner, identifier, files)
        return code if finished else 130

    def _report_resumed(self) -> None:
        known = [trial for trial in self._study.trials() if trial.state != "running"]
        if self._study.resumed:
            self._display.say(f"going on: {len(known)} of {self._search.trials} trials are done")

    def _job(self, number: int, point: Sequence[str]) -> Job:
        from builder.cli.sweep import composed_job

        return composed_job(number, (*self._arguments, *point), " ".join(point))[0]

    def _write(self, trials: Sequence[Trial], front: Sequence[Trial], winner: Trial | None) -> list[Path]:
        """Write tables, plots and the winner's recipe, and tell; returns the files."""
        from builder.cli.search_winner import write_winner
        from builder.reports.console import TextConsole
        from builder.search.plots import write_page, write_picture
        from builder.search.run import TABLE
        from builder.search.table import print_front, render_csv, say_counts

        console = TextConsole(file=sys.stderr, highlight=False, markup=False, emoji=False)
        title = f"{self._request.recipe}: {self._folder.name}"
        page, picture = self._folder / "front.html", self._folder / "front.png"
        paths.write_atomically(self._folder / TABLE, render_csv(trials, self._search))
        paths.write_atomically(self._folder / "front.csv", render_csv(front, self._search))
        write_page(page, title, trials, winner, self._search)
        write_picture(picture, title, trials, winner, self._search)
        files = [self._folder / TABLE, self._folder / "front.csv", page, picture]
        if self._verbosity >= 0:
            console.print()
            print_front(front, winner, self._search, console)
        say_counts(trials, front, console)
        if self._study.is_exhausted() and len(trials) < self._search.trials:
            self._display.say(f"all {len(trials)} settings of the space were tried: there are no more")
        self._display.say(f"tables, plots and logs: {shown(self._folder)}")
        if winner is not None:
            write_winner(self._winner_file, winner, self._request.recipe, self._folder, self._search)
            files.append(self._winner_file)
            print(shown(self._winner_file))
        return files

    def _track(
        self, trials: Sequence[Trial], front: Sequence[Trial], winner: Trial | None, identifier: str, files: list[Path]
    ) -> int:
        """Record the search where its builds are recorded; returns the exit code."""
        from builder.cli.sweep import Warnings
        from builder.errors import UnfitEnvironmentError
        from builder.search.tracking import summary_run
        from builder.spec.tracking import MlflowTracking
        from builder.tracking import track_run

        tracking = self._request.spec.tracking
        if not isinstance(tracking, MlflowTracking):
            return 0
        run = summary_run(
            trials,
            front,
            winner,
            self._search,
            recipe=self._request.recipe,
            study=self._folder.name,
            identifier=identifier,
            arguments=[*self._arguments, *self._read.arguments],
            started=self._began,
            ended=time.time(),
        )
        try:
            track_run(run, tracking, files=files, outputs=self._outputs, progress=Warnings(self._display))
        except UnfitEnvironmentError as error:
            self._display.warn(error.message, code=error.code)
            return error.exit_code
        return 0

    def _record(self, run: TrackedRun, request: BuildRequest) -> None:
        """Record a trial whose build could not; where tracking is required, the search's own run waits for it too."""
        from builder.cli.sweep import Warnings
        from builder.spec.tracking import MlflowTracking
        from builder.tracking import track_run

        tracking = request.spec.tracking
        if isinstance(tracking, MlflowTracking):
            later = tracking.model_copy(update={"required": False})
            track_run(run, later, files=[], outputs=self._outputs, progress=Warnings(self._display))


def _inputs_digest(request: BuildRequest) -> str:
    """A digest of all that the builds read: recipe, files, user code, versions of the tools."""
    from builder.engine.run import stage_names
    from builder.engine.runner import open_runner
    from builder.engine.table import STAGES
    from builder.progress import Silent

    runner = open_runner(Silent(), peek=True)
    inputs = {stage: runner.inputs(stage, request.spec, {}) for stage in stage_names(STAGES, request.spec)}
    runner.remembered.save()
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()
