"""The sealed artifact, executed, computes what the original model computes, from the app's own inputs on."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from builder.artifacts.checks import CheckReport
from builder.artifacts.stages import Sample
from builder.checks.beside import make_judge
from builder.checks.bounds import output_sizes, parity_bounds
from builder.checks.comparison import Outputs, judge
from builder.checks.detections import check_detections
from builder.checks.engine import Engine, Execute
from builder.checks.limits import given_limits, parity_limits
from builder.checks.pictures import checked_picture
from builder.checks.rounding import with_numbers, without_rounding
from builder.checks.states import StateCarry
from builder.checks.stress import look_beside, with_beside
from builder.checks.subject import Subject
from builder.data import Samples
from builder.spec.checks import ParityCheck

PICTURES = 2
"""How many samples the report shows."""
LEAST = 4
"""So many of a user's samples are taken however long they take."""
DRAWN_ONCE = 8
"""So many samples are kept between original and artifact."""
MOST_BYTES = 2**30
"""Outputs of so many bytes are kept at once; samples end there too."""
MOST_PICTURES = 64
"""So many of a user's pictures are taken for a detector, whose boxes are matched one by one."""


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """What original and artifact gave for each sample."""

    references: list[Outputs]
    results: list[Outputs]
    shown: list[tuple[Sample, Outputs, Outputs]]


def check_parity(
    name: str,
    check: ParityCheck,
    subject: Subject,
    samples: Samples,
    by: Engine,
    kept: StateCarry,
) -> CheckReport:
    """Compare with the model before compression: what declared substitutions changed is their own effect.

    States go on from what `kept` has, on both sides. A slow engine confirms a few samples, and nothing beside them.
    """
    engine, execute, samples = by.name, by.execute, samples.first(by.samples)
    if subject.prepared.suppression is not None:
        taken = samples if not _is_limited(check, samples) else samples[:MOST_PICTURES]
        report = check_detections(name, check, subject, taken, engine, execute)
        return replace(report, data=samples.described(len(taken)))
    began = time.process_time()
    kept.enter(engine, subject)
    others = subject.other_outputs(subject.prepared.uncompressed, samples)
    pairs = _run(name, check, subject, samples, engine, execute)
    report = judge(
        name=name,
        kind=check.kind,
        engine=engine,
        references=pairs.references,
        results=pairs.results,
        scores=subject.scores,
        limits=parity_limits(subject.spec, check),
        others=others,
        further=others.further,
        rounded=_judged_by_rounding(check),
        given=given_limits(check),
        half=subject.in_half,
    )
    pictures = tuple(picture for s, a, b in pairs.shown for picture in checked_picture(subject, s, a, b, engine))
    report = replace(report, pictures=pictures, data=samples.described(len(pairs.references)))
    if by.samples is not None:
        kept.leave(engine, subject)
        return report
    cost = time.process_time() - began
    with kept.apart(engine, subject) as begin:
        beside = look_beside(name, check, subject, make_judge(check, subject, execute, pairs.references, begin), cost)
    kept.leave(engine, subject)
    return with_beside(report, beside)


def _judged_by_rounding(check: ParityCheck) -> tuple[str, ...]:
    """The measures for which it counts what the original answers where it is rounded as the artifact is.

    Of integers that says which of values that nearly tie is taken. Of floats it would excuse what half precision does
    to an ill-conditioned model, so it counts where a recipe names no data: nobody asked for exactly these samples.
    """
    return ("agreement",) if check.data is not None else ("agreement", "snr_db")


def _is_limited(check: ParityCheck, samples: Samples) -> bool:
    """Whether samples are taken as long as there is time: a user's own, where the recipe does not say how many."""
    return check.samples is None and samples.available is not None


def _run(name: str, check: ParityCheck, subject: Subject, samples: Samples, engine: str, execute: Execute) -> _Pairs:
    """Both on each sample; of a user's own on as many as fit into the time that the recipe allows, by the first few."""
    original = partial(subject.known_original, subject.prepared.uncompressed)
    is_limited = _is_limited(check, samples) and len(samples) > LEAST
    first = LEAST if is_limited else len(samples)
    began = time.perf_counter()
    sample_of = lru_cache(DRAWN_ONCE)(samples.__getitem__)
    references: list[Outputs] = [original(sample_of(number)) for number in range(first)]
    results: list[Outputs] = []
    shown: list[tuple[Sample, Outputs, Outputs]] = []

    def give(number: int) -> None:
        sample, reference = sample_of(number), references[number]
        given = with_numbers(reference, execute(sample))
        results.append(without_rounding(subject, reference, given))
        if len(shown) < PICTURES:
            shown.append((sample, reference, given))

    if is_limited:
        for number in range(first):
            give(number)
        fitting = min(MOST_BYTES // max(1, 2 * _bytes(references[0])), len(samples))
        with subject.progress.bar(f"{name} ({engine})", None, unit="it") as advance:
            for number in range(first, fitting):
                if time.perf_counter() - began > check.seconds:
                    break
                references.append(original(samples[number]))
                give(number)
                advance(1)
    sizes = output_sizes(references)
    with subject.progress.bar(f"{name} ({engine})", len(references), unit="it") as advance:
        for number, reference in enumerate(references):
            if number >= len(results):
                give(number)
            subject.progress.bound(partial(parity_bounds, name, sizes, reference, results[number]))
            advance(1)
    return _Pairs(references=references, results=results, shown=shown)


def _bytes(outputs: Outputs) -> int:
    return sum(value.numel() * value.element_size() for value in outputs.values())
