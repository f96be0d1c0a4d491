"""The sealed artifact, executed, computes what the original model computes, from the app's own inputs on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial

from builder.artifacts import CheckReport, Sample
from builder.checks.beside import make_judge
from builder.checks.bounds import parity_bounds
from builder.checks.comparison import Outputs, judge
from builder.checks.detections import check_detections
from builder.checks.engine import Execute, Kept
from builder.checks.limits import parity_limits
from builder.checks.pictures import checked_picture
from builder.checks.rounding import with_numbers, without_rounding
from builder.checks.stress import look_beside, with_beside
from builder.checks.subject import Subject
from builder.data import Samples
from builder.spec.checks import ParityCheck

PICTURES = 2
"""How many samples the report shows."""
LEAST = 4
"""So many of a user's samples are taken however long they take."""
MOST_BYTES = 2**30
"""Outputs of so many bytes are kept at once; samples end there too."""


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """What original and artifact gave for each sample."""

    references: list[Outputs] = field(default_factory=list)
    results: list[Outputs] = field(default_factory=list)
    shown: list[tuple[Sample, Outputs, Outputs]] = field(default_factory=list)


def check_parity(
    name: str,
    check: ParityCheck,
    subject: Subject,
    samples: Samples,
    engine: str,
    execute: Execute,
    kept: Kept,
) -> CheckReport:
    """Compare with the model before compression: what declared substitutions changed is their own effect.

    States go on from what `kept` has, on both sides.
    """
    if subject.prepared.suppression is not None:
        report = check_detections(name, check, subject, samples, engine, execute)
        return replace(report, data=samples.described())
    began = time.process_time()
    kept.enter(engine, subject)
    pairs = _run(name, check, subject, samples, engine, execute)
    report = judge(
        name=name,
        kind=check.kind,
        engine=engine,
        references=pairs.references,
        results=pairs.results,
        scores=subject.scores,
        limits=parity_limits(subject.spec, check),
    )
    cost = time.process_time() - began
    beside = look_beside(name, check, subject, make_judge(check, subject, execute, pairs.references), cost)
    kept.leave(engine, subject)
    pictures = tuple(picture for s, a, b in pairs.shown for picture in checked_picture(subject, s, a, b, engine))
    report = replace(report, pictures=pictures, data=samples.described(len(pairs.references)))
    return with_beside(report, beside)


def _run(name: str, check: ParityCheck, subject: Subject, samples: Samples, engine: str, execute: Execute) -> _Pairs:
    """Both on each sample, until those of a user's own have taken as long as the recipe allows."""
    pairs, began, held = _Pairs(), time.perf_counter(), 0
    is_limited = check.samples is None and samples.available is not None
    with subject.progress.bar(f"{name} ({engine})", len(samples), unit="it") as advance:
        for number, sample in enumerate(samples):
            late = time.perf_counter() - began > check.seconds or held > MOST_BYTES
            if is_limited and number >= LEAST and late:
                break
            reference = subject.run_original(subject.prepared.uncompressed, sample)
            given = with_numbers(reference, execute(sample))
            pairs.references.append(reference)
            pairs.results.append(without_rounding(subject, reference, given))
            subject.progress.bound(partial(parity_bounds, name, pairs.references, pairs.results))
            held += 2 * sum(value.numel() * value.element_size() for value in reference.values())
            if len(pairs.shown) < PICTURES:
                pairs.shown.append((sample, reference, given))
            advance(1)
    return pairs
