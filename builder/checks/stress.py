"""What a parity check tries beside its samples: stress inputs, the worst input of an earlier build, and a search."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from builder.artifacts.checks import CheckReport
from builder.checks.beside import Judge, Judgement
from builder.checks.counterexample import Found, Search, search
from builder.checks.domain import Domain, Point
from builder.checks.subject import Subject
from builder.checks.worst import encoded, recall, remember
from builder.data import default_data
from builder.data.stress import USUAL
from builder.data.stress_samples import StressInput, stress_inputs
from builder.data.wording import is_drawn
from builder.spec import BuildSpec
from builder.spec.checks import ParityCheck
from builder.spec.coverage import data_of, is_without_range, synthetic_inputs

SHARES = {True: 1.0, False: 0.3}
"""How long stress inputs may take, as a share of the time of the samples: by whether some input has no data."""
LEAST_SECONDS = {True: 0.6, False: 0.5}
"""For how long they are tried in any case."""
LEAST = {True: 8, False: 2}
"""So many are tried however long they take: those that find most come first."""
MOST_SEARCH, SEARCH_OF_BUILD, LEAST_SEARCH = 10.0, 0.1, 0.25
"""How long a search takes where some input has no data, in seconds, as a share of the build, and at least."""
SEARCH_OF_SAMPLES = 0.1
"""How long it takes where all inputs have data, as a share of the time of the samples."""
WORTH_SECONDS = 0.1
"""No search is begun for less."""
NAMED = 3
"""So many inputs that miss a limit are named, and no more are looked for."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What was tried, and what missed a limit."""

    stress: int = 0
    """How many stress inputs original and artifact were compared on."""
    stress_left: int = 0
    """How many there was no time for."""
    refused: tuple[str, ...] = ()
    """Those that the original itself cannot take."""
    search: Search | None = None
    failures: tuple[str, ...] = ()
    worst_snr_db: float | None = None
    worst_input: bytes | None = None
    """As `.npz`."""
    worst_description: str = ""
    synthetic: tuple[str, ...] = ()
    advice: str = ""
    """What a recipe may promise, where an input that missed a limit is wider than an app's may be."""


def look_beside(name: str, check: ParityCheck, subject: Subject, judge: Judge, cost: float) -> Beside:
    """Try stress inputs and search, within shares of `cost`, the processor time in seconds that the samples took.

    With states, each input begins with those that the samples left.
    """
    synthetic = synthetic_inputs(check, subject.spec)
    tried = _Tried(subject=subject)
    _earlier(name, check, subject, judge, tried)
    if check.stress:
        _stress(check, subject, judge, tried, cost, has_synthetic=bool(synthetic))
    seconds = _search_seconds(check, subject, cost, has_synthetic=bool(synthetic))
    found = None
    most, each = MOST_SEARCH if check.search is None else None, tried.seconds_each
    if seconds and not tried.fails and (most is None or each <= seconds):
        found = search(judge, tried.known(), seconds, subject.spec.seed, each=each, most=most)
        if found.worst is not None:
            tried.add("an input that the search found", found.worst.point, found.worst.judgement)
    return _summed(name, subject, tried, found, synthetic)


@dataclass(kw_only=True)
class _Tried:
    """Inputs and what came of them, so far."""

    subject: Subject
    stress: int = 0
    stress_left: int = 0
    seconds_each: float = 0.0
    """How much processor time a stress input took."""
    refused: list[str] = field(default_factory=list)
    entries: list[tuple[str, Point, Judgement]] = field(default_factory=list)

    def add(self, description: str, point: Point, judgement: Judgement) -> None:
        """Count an input, unless the original refused it."""
        if judgement.refused:
            self.refused.append(description)
        else:
            self.entries.append((description, point, judgement))

    @property
    def fails(self) -> bool:
        """Whether the artifact missed a limit on one of them: then nothing is left to be looked for."""
        return self.failures > 0

    @property
    def failures(self) -> int:
        """On how many of them the artifact missed a limit."""
        return sum(judgement.failure is not None for _, _, judgement in self.entries)

    def known(self) -> list[Found]:
        """Those that have values for all inputs: where a search begins."""
        names = set(self.subject.spec.artifact_inputs)
        return [Found(point=point, judgement=found) for _, point, found in self.entries if set(point) == names]


def _badness(entry: tuple[str, Point, Judgement]) -> tuple[bool, float]:
    return (entry[2].failure is None, entry[2].snr_db)


def _earlier(name: str, check: ParityCheck, subject: Subject, judge: Judge, tried: _Tried) -> None:
    """Try what an earlier search found to be worst."""
    point = None if check.search == 0 else recall(subject, name)
    if point is not None:
        sample = Domain(inputs=subject.spec.artifact_inputs).sample(point)
        tried.add("the worst input of an earlier build", point, judge(sample))


def _stress(
    check: ParityCheck, subject: Subject, judge: Judge, tried: _Tried, cost: float, *, has_synthetic: bool
) -> None:
    began = time.process_time()
    inputs = _stress_inputs(check, subject.spec)
    for number, one in enumerate(inputs):
        late = time.process_time() - began > max(LEAST_SECONDS[has_synthetic], SHARES[has_synthetic] * cost)
        enough = len(tried.entries) + len(tried.refused) >= LEAST[has_synthetic]
        if tried.failures >= NAMED:
            break
        if late and enough:
            tried.stress_left = len(inputs) - number
            break
        sample = one.make()
        judgement = judge(sample, like_real=one.like_real)
        tried.add(one.description, sample.given, judgement)
        tried.stress += not judgement.refused
        tried.seconds_each = (time.process_time() - began) / (number + 1)


def _stress_inputs(check: ParityCheck, spec: BuildSpec) -> list[StressInput]:
    """The stress inputs, with what comes along in the other inputs: of a user's own data no piece is taken."""
    data = data_of(check, spec)
    beside = data if is_drawn(data.kind) else default_data(spec)
    return list(stress_inputs(beside, spec.artifact_inputs, spec.seed))


def _search_seconds(check: ParityCheck, subject: Subject, cost: float, *, has_synthetic: bool) -> float:
    if check.search is not None:
        return check.search
    if not has_synthetic:
        share = SEARCH_OF_SAMPLES * cost
        return min(MOST_SEARCH, share) if share >= WORTH_SECONDS else 0.0
    return min(MOST_SEARCH, max(LEAST_SEARCH, SEARCH_OF_BUILD * subject.build_seconds))


def _summed(name: str, subject: Subject, tried: _Tried, found: Search | None, synthetic: tuple[str, ...]) -> Beside:
    """What was tried as the report keeps it; the worst input is remembered for the next build."""
    entries = sorted(tried.entries, key=_badness)
    missed = [f"{description}: {judgement.failure}" for description, _, judgement in entries if judgement.failure]
    worst_input, description = None, entries[0][0] if entries else ""
    if entries:
        point = entries[0][1]
        if set(point) == set(subject.spec.artifact_inputs):
            worst_input = encoded(Domain(inputs=subject.spec.artifact_inputs).plain(point))
        if worst_input is not None:
            remember(subject, name, worst_input)
    return Beside(
        stress=tried.stress,
        stress_left=tried.stress_left,
        refused=tuple(tried.refused),
        search=found,
        failures=tuple(missed),
        worst_snr_db=entries[0][2].snr_db if entries else None,
        worst_input=worst_input,
        worst_description=description,
        synthetic=synthetic,
        advice=_advice(subject.spec, {what: point for what, point, judgement in entries if judgement.failure}),
    )


def _advice(spec: BuildSpec, missed: Mapping[str, Point]) -> str:
    """That a range may be promised, where values beyond 1 missed a limit that no range allows or forbids.

    `missed` are inputs by what they are called: of a stress input, `… in NAME`, the others are drawn as always.
    """
    names = list(spec.artifact_inputs)
    stressed = {what: [name for name in names if what.endswith(f" in {name}")] or names for what in missed}
    free = [
        name
        for name, given in spec.artifact_inputs.items()
        if is_without_range(given)
        and any(
            name in stressed[what] and name in point and np.abs(np.asarray(point[name])).max() > 1
            for what, point in missed.items()
        )
    ]
    if not free:
        return ""
    low, high = USUAL
    verb = "declares" if len(free) == 1 else "declare"
    return f"{', '.join(free)} {verb} no range, so {low:g} to {high:g} is tried: `low` and `high` promise less"


def with_beside(report: CheckReport, beside: Beside) -> CheckReport:
    """The report with what was tried beside its samples; an input that misses a limit fails the check."""
    data = {**(report.data or {}), **_data(beside)}
    reason, passed = report.reason, report.passed
    if beside.failures:
        shown = [*beside.failures[:NAMED], *([beside.advice] if beside.advice else [])]
        reason, passed = "; ".join([*([reason] if reason and passed is False else []), *shown]), False
    return replace(report, passed=passed, reason=reason, data=data, worst_input=beside.worst_input)


def _data(beside: Beside) -> Mapping[str, Any]:
    return dict(_described(beside))


def _described(beside: Beside) -> Iterator[tuple[str, object]]:
    yield "synthetic", list(beside.synthetic)
    yield "stress", beside.stress
    if beside.stress_left:
        yield "stress_left", beside.stress_left
    if beside.refused:
        yield "refused_by_original", list(beside.refused)
    if beside.search is not None:
        yield "search", {"tries": beside.search.tries, "seconds": round(beside.search.seconds, 2)}
    if beside.worst_snr_db is not None:
        yield "worst", {"input": beside.worst_description, "snr_db": beside.worst_snr_db}
