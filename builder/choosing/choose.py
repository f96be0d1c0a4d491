"""Decides what `auto` stands for: the precision first, and then, with it, the compression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from builder.artifacts import Chosen, Sample, Tried
from builder.choosing.attempts import Attempting, Candidate, measured
from builder.choosing.precision import PrecisionChoice, choose_precision
from builder.debugging.samples import first_samples
from builder.progress import Advance, Progress
from builder.spec import BuildSpec
from builder.spec.precision import AutoPrecision, Precision
from builder.store.digests import digest_of

SAMPLES = 4
"""On how many samples operators are ranked; what passes is decided by the checks, on theirs."""


def choose(spec: BuildSpec, attempt: Attempting, progress: Progress) -> Chosen:
    """Find what to put in the place of `auto`, by builds whose checks are the recipe's own."""
    with progress.bar("choose", None, unit="it") as advance:
        trials = _Trials(spec, attempt, progress, advance)
        precision = None
        if isinstance(spec.precision, AutoPrecision):
            precision = choose_precision(trials.with_precision, trials.samples, _modules)
        return _chosen(precision, trials)


class _Trials:
    """What was built so far; nothing is built twice."""

    def __init__(self, spec: BuildSpec, attempt: Attempting, progress: Progress, advance: Advance) -> None:
        self._spec = spec
        self._attempt = attempt
        self._progress = progress
        self._advance = advance
        self._known: dict[str, Candidate] = {}

    @property
    def tried(self) -> tuple[Tried, ...]:
        """Everything, in order."""
        return tuple(candidate.tried() for candidate in self._known.values())

    def __call__(self, what: str, spec: BuildSpec) -> Candidate:
        """Build and measure."""
        key = digest_of(spec.model_dump(mode="json", include={"precision", "compression"}))
        if key not in self._known:
            found = self._known[key] = measured(what, spec, self._attempt(spec))
            self._advance(1)
            verdict = "passes" if found.passes else "does not pass"
            self._progress.detail(f"{what}: {found.bytes} bytes, SNR {found.snr_db:.1f} dB, {verdict}")
        return self._known[key]

    def with_precision(self, what: str, precision: Precision) -> Candidate:
        """Build with a precision, and with the recipe's compression unless that is open as well."""
        compression = {} if self._spec.automatic_compression else self._spec.compression
        return self(what, self._spec.model_copy(update={"precision": precision, "compression": compression}))

    def samples(self, candidate: Candidate) -> Sequence[Sample]:
        """What operators are ranked on."""
        prepared = candidate.story.first.prepared.value()
        return first_samples(self._spec, prepared.preprocessing, SAMPLES)


def _modules(candidate: Candidate) -> Mapping[str, str]:
    modules: Mapping[str, str] = candidate.story.first.converted.record["modules"]
    return modules


def _chosen(precision: PrecisionChoice | None, trials: _Trials) -> Chosen:
    said = [_said(precision)] if precision else []
    return Chosen(
        precision=None if precision is None else _plain(precision.precision),
        compression=None,
        said="; ".join(said),
        kept=() if precision is None else precision.kept,
        tried=trials.tried,
        notes=() if precision is None else precision.notes,
    )


def _plain(part: Any) -> dict[str, Any]:
    plain: dict[str, Any] = part.model_dump(mode="json", exclude_defaults=True)
    return plain


def _said(choice: PrecisionChoice) -> str:
    if not choice.kept:
        return f"precision {choice.precision.kind}"
    places = list(dict.fromkeys(kept.module or kept.name for kept in choice.kept))
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    count = f"{len(choice.kept)} operator{'s' if len(choice.kept) > 1 else ''}"
    return f"precision mixed: {count} in float32 ({', '.join(places[:3])}{more})"
