"""Decides what `auto` stands for: the precision first, and then, with it, the compression."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from builder.analysis.numerics.samples import missed_by, samples_to_compare
from builder.artifacts.record import AutoResult, TriedArtifact
from builder.artifacts.stages import Sample
from builder.artifacts.stored import MeasuredLayers
from builder.auto.attempts import Attempting, Candidate, measured
from builder.auto.compression import CompressionChoice, choose_compression
from builder.auto.precision import PrecisionChoice, choose_precision
from builder.auto.sensitivity import measure_layers
from builder.progress import Advance, Progress
from builder.spec import BuildSpec
from builder.spec.compression import WeightCompression
from builder.spec.precision import AutoPrecision, Precision
from builder.spec.target import target_of_format
from builder.store.digests import bytes_digest, digest_of
from builder.util.text import first_of

Keeping = Callable[[Mapping[str, str], Callable[[], MeasuredLayers]], MeasuredLayers]
"""Takes the digests of what is measured on, and what measures it."""

SAMPLES = 4
"""On how many samples operators are ranked; what passes is decided by the checks, on theirs."""


def choose(spec: BuildSpec, attempt: Attempting, keep: Keeping, progress: Progress) -> AutoResult:
    """Find what to put in the place of `auto`, by builds whose checks are the recipe's own.

    `keep` returns what was measured on artifacts, from the store where it is known.
    """
    with progress.bar("choose", None, unit="it") as advance:
        trials = _Trials(spec, attempt, progress, advance)
        precision = None
        if isinstance(spec.precision, AutoPrecision):
            precision = choose_precision(trials.with_precision, trials.samples, _modules, names=_names)
            trials.decide(precision.precision)
        compression = None
        if spec.automatic_compression is not None:
            measure = partial(_measured, trials, keep)
            target = target_of_format(spec.target, spec.format)
            compression = choose_compression(spec.automatic_compression, target, trials.with_compression, measure)
        return _chosen(precision, compression, trials)


def _measured(trials: _Trials, keep: Keeping, plain: Candidate, uniform: Mapping[str, Candidate]) -> MeasuredLayers:
    """The sensitivity of layers, which depends on artifacts and samples, and on no limit."""
    samples = trials.samples(plain)
    after = {
        "samples": digest_of([bytes_digest(t.numpy().tobytes()) for s in samples for t in s.tensors.values()]),
        **{option: candidate.build.digest for option, candidate in uniform.items()},
        "none": plain.build.digest,
    }
    return keep(after, lambda: measure_layers(plain, uniform, samples))


class _Trials:
    """What was built so far; nothing is built twice."""

    def __init__(self, spec: BuildSpec, attempt: Attempting, progress: Progress, advance: Advance) -> None:
        self._spec = spec
        self._attempt = attempt
        self._progress = progress
        self._advance = advance
        self._known: dict[str, Candidate] = {}

    @property
    def tried(self) -> tuple[TriedArtifact, ...]:
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

    def decide(self, precision: Precision) -> None:
        """Build with this precision from now on."""
        self._spec = self._spec.model_copy(update={"precision": precision})

    def with_compression(self, what: str, steps: Mapping[str, WeightCompression]) -> Candidate:
        """Build with these steps."""
        return self(what, self._spec.model_copy(update={"compression": dict(steps)}))

    def samples(self, candidate: Candidate) -> Sequence[Sample]:
        """What operators are ranked on: where the candidate failed a check, the samples that missed its limits."""
        prepared = candidate.build.prepared()
        return samples_to_compare(self._spec, prepared, missed_by(candidate.reports), SAMPLES)


def _modules(candidate: Candidate) -> Mapping[str, str]:
    return candidate.build.modules


def _names(candidate: Candidate) -> Mapping[str, str]:
    return candidate.build.names


def _chosen(precision: PrecisionChoice | None, compression: CompressionChoice | None, trials: _Trials) -> AutoResult:
    summaries = [*([_said(precision)] if precision else []), *([compression.summary] if compression else [])]
    steps = {} if compression is None else {name: _plain(step) for name, step in compression.steps.items()}
    return AutoResult(
        precision=None if precision is None else _plain(precision.precision),
        compression=None if compression is None else steps,
        summary="; ".join(summaries),
        kept=() if precision is None else precision.kept,
        tried=trials.tried,
        notes=(*(precision.notes if precision else ()), *(compression.notes if compression else ())),
    )


def _plain(part: Any) -> dict[str, object]:
    plain: dict[str, object] = part.model_dump(mode="json", exclude_defaults=True)
    return plain


def _said(choice: PrecisionChoice) -> str:
    if not choice.kept:
        return f"precision {choice.precision.kind}"
    places = list(dict.fromkeys(kept.module or kept.name for kept in choice.kept))
    count = f"{len(choice.kept)} operator{'s' if len(choice.kept) > 1 else ''}"
    return f"precision mixed: {count} in float32 ({first_of(places, 3)})"
