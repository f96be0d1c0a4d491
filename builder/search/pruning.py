"""Stops a build when nothing that it can still measure would bring it to the front.

Every measure of a check is the worst over its samples, so what is measured so far bounds what will be: the size is
known before any check, and quality can only fall. A trial is hopeless when even the best that its bounds allow misses
a constraint, or is beaten by a trial that is complete. So the front is the same with pruning and without.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.jobs.jobs import Exit, Job, Task
from builder.jobs.scheduler import Handle, Launcher
from builder.progress import Bound, Bounds, Silent
from builder.reports.plain import value_text
from builder.search.front import dominates
from builder.search.settings import Search
from builder.search.trials import Trial

_BEST = {"accuracy": 1.0, "agreement": 1.0, "cosine": 1.0, "top1_agreement": 1.0}
"""What these measures cannot exceed, whatever is measured."""


class BoundsFile(Silent):
    """A Progress that appends bounds to a file, a line of JSON whenever some have changed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._last: Mapping[str, Bound] = {}

    def bound(self, bounds: Bounds) -> None:
        """Write what is new."""
        found = bounds()
        new = {name: [b.at_least, b.at_most] for name, b in found.items() if self._last.get(name) != b}
        self._last = {**self._last, **found}
        if new:
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(new) + "\n")


class Known:
    """The narrowest bounds that a build has told, read from its file as it grows."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._position = 0
        self._at_least: dict[str, float] = {}
        self._at_most: dict[str, float] = {}

    def read(self) -> bool:
        """Take in what was written since the last call; returns whether that was anything."""
        try:
            with self._file.open("rb") as stream:
                stream.seek(self._position)
                news = stream.read()
        except FileNotFoundError:
            return False
        lines = news[: news.rfind(b"\n") + 1]
        self._position += len(lines)
        for line in lines.splitlines():
            for name, (low, high) in json.loads(line).items():
                if low is not None and not math.isnan(low):
                    self._at_least[name] = max(low, self._at_least.get(name, -math.inf))
                if high is not None and not math.isnan(high):
                    self._at_most[name] = min(high, self._at_most.get(name, math.inf))
        return bool(lines)

    def smallest(self, measure: str) -> float:
        """The least that the measure can still be."""
        return max((v for name, v in self._at_least.items() if _is_of(name, measure)), default=-math.inf)

    def largest(self, measure: str) -> float:
        """The most that the measure can still be."""
        natural = _BEST.get(measure.rpartition(".")[2], math.inf)
        return min([natural, *(v for name, v in self._at_most.items() if _is_of(name, measure))])


def _is_of(name: str, measure: str) -> bool:
    """Whether a bound is of a measure, which may be the worst over all outputs of a check."""
    parts, wanted = name.split("."), measure.split(".")
    return parts == wanted or (len(parts) == 4 and len(wanted) == 3 and [*parts[:2], parts[3]] == wanted)


def why_hopeless(known: Known, search: Search, trials: Iterable[Trial]) -> str | None:
    """Say why a trial with these bounds can no longer come to the front, or None."""
    for constraint in search.constraints.values():
        measure = constraint.measure
        if constraint.max is not None and known.smallest(measure) > constraint.max:
            return f"{measure} is at least {value_text(measure, known.smallest(measure))}"
        if constraint.min is not None and known.largest(measure) < constraint.min:
            return f"{measure} is at most {value_text(measure, known.largest(measure))}"
    best = {
        name: known.smallest(o.measure) if o.goal == "minimize" else known.largest(o.measure)
        for name, o in search.objectives.items()
    }
    for trial in trials:
        if trial.state == "complete" and dominates(trial.values, best, search.objectives):
            message = ", ".join(
                f"{name} {'at least' if o.goal == 'minimize' else 'at most'} {value_text(o.measure, best[name])}"
                for name, o in search.objectives.items()
                if math.isfinite(best[name])
            )
            return f"trial {trial.number} beats whatever it may reach ({message})"
    return None


class PruningLauncher:
    """Starts jobs by another launcher, and asks those to end that have become hopeless."""

    def __init__(
        self, launcher: Launcher, search: Search, trials: Callable[[], Sequence[Trial]], bounds: Callable[[Job], Path]
    ) -> None:
        self.limit, self.pause, self.threads = launcher.limit, launcher.pause, launcher.threads
        self.reasons: dict[int, str] = {}
        """By the number of the job, why it was asked to end."""
        self.unpruned = launcher
        """The other launcher."""
        self._search = search
        self._trials = trials
        self._bounds = bounds

    def start(self, job: Job, task: Task) -> Handle:
        """Start a job."""
        known = Known(self._bounds(job))

        def hopeless() -> bool:
            if known.read() and (reason := why_hopeless(known, self._search, self._trials())):
                self.reasons[job.number] = reason
                return True
            return False

        return _Watched(self.unpruned.start(job, task), hopeless)

    def blocked_reason(self, job: Job) -> str | None:
        """Ask the other launcher."""
        return self.unpruned.blocked_reason(job)

    def finished(self, job: Job, exit: Exit) -> None:
        """Tell the other launcher."""
        self.unpruned.finished(job, exit)

    def close(self) -> None:
        """Close the other launcher."""
        self.unpruned.close()


class _Watched:
    """A running job that is asked to end when it is hopeless."""

    def __init__(self, handle: Handle, hopeless: Callable[[], bool]) -> None:
        self._handle: Any = handle
        self._hopeless = hopeless
        self._stopped = False

    def ended(self) -> Exit | None:
        """Return how it ended, None while it runs."""
        exit: Exit | None = self._handle.ended()
        if exit is None and not self._stopped and self._hopeless():
            self._stopped = True
            self._handle.stop()
        return exit

    def stop(self) -> None:
        """Ask it to end."""
        self._handle.stop()

    def kill(self) -> None:
        """End it."""
        self._handle.kill()
