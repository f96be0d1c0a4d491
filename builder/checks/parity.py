"""The sealed artifact, executed, computes what the original model computes, from the app's own inputs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from builder.artifacts import CheckReport, Sample
from builder.checks.comparison import judge
from builder.checks.engine import Execute
from builder.checks.limits import parity_limits
from builder.checks.pictures import checked_picture
from builder.checks.subject import Subject
from builder.spec.checks import ParityCheck

PICTURES = 2
"""How many samples the report shows."""


def check_parity(
    name: str, check: ParityCheck, subject: Subject, samples: Sequence[Sample], engine: str, execute: Execute
) -> CheckReport:
    """Compare the artifact with the model as captured: what declared substitutions changed is their own effect."""
    references, results = [], []
    with subject.progress.bar(f"{name} ({engine})", len(samples), unit="it") as advance:
        for sample in samples:
            references.append(subject.run_original(subject.prepared.module, sample))
            results.append(execute(sample))
            advance(1)
    report = judge(
        name=name,
        kind=check.kind,
        engine=engine,
        references=references,
        results=results,
        scores=subject.scores,
        limits=parity_limits(subject.spec, check),
    )
    shown = zip(samples[:PICTURES], references, results, strict=False)
    pictures = tuple(picture for s, a, b in shown for picture in checked_picture(subject, s, a, b, engine))
    return replace(report, pictures=pictures)
