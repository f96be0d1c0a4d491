"""The sealed artifact, executed, classifies labelled data as well as the original does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from builder.artifacts import CheckReport, Sample
from builder.checks.bounds import accuracy_bounds
from builder.checks.comparison import describe
from builder.checks.engine import Execute
from builder.checks.subject import Subject
from builder.spec.checks import AccuracyCheck


def check_accuracy(
    name: str, check: AccuracyCheck, subject: Subject, samples: Sequence[Sample], engine: str, execute: Execute
) -> CheckReport:
    """Count right answers of both; `original` is the model before any substitution."""
    labels, output = subject.prepared.labels, subject.scores
    assert labels is not None, "compatibility demands a classifier"
    assert output is not None, "compatibility demands a classifier"
    unknown = sorted({str(s.label) for s in samples} - set(labels))
    if unknown:
        return _report(name, check, engine, {}, None, f"the data has labels that the model lacks: {', '.join(unknown)}")
    right = original_right = agreed = done = 0
    with subject.progress.bar(f"{name} ({engine})", len(samples), unit="it") as advance:
        for sample in samples:
            answer = labels[int(execute(sample)[output].argmax())]
            reference = subject.run_original(subject.prepared.reference, sample)[output]
            original_answer = labels[int(reference.argmax())]
            right += answer == sample.label
            original_right += original_answer == sample.label
            agreed += answer == original_answer
            done += 1
            subject.progress.bound(partial(accuracy_bounds, name, right, original_right, done, len(samples)))
            advance(1)
    values = {
        "accuracy": right / len(samples),
        "original_accuracy": original_right / len(samples),
        "drop": (original_right - right) / len(samples),
        "top1_agreement": agreed / len(samples),
    }
    limits = {key: limit for key in ("accuracy", "drop") if (limit := getattr(check, key)) is not None}
    failures = [
        f"{key} is {values[key]:.4g}, and the limit is {describe(limit)}"
        for key, limit in limits.items()
        if not limit.holds(values[key])
    ]
    if not limits:
        return _report(name, check, engine, values, None, "no limit is given", len(samples))
    return _report(name, check, engine, values, not failures, "; ".join(failures) or None, len(samples))


def _report(
    name: str,
    check: AccuracyCheck,
    engine: str,
    values: dict[str, float],
    passed: bool | None,
    reason: str | None,
    samples: int | None = None,
) -> CheckReport:
    limits = {key: limit for key in ("accuracy", "drop") if (limit := getattr(check, key)) is not None}
    return CheckReport(
        name=name,
        kind=check.kind,
        engine=engine,
        values=values,
        limits={key: limit.model_dump(exclude_none=True) for key, limit in limits.items()},
        passed=passed,
        reason=reason,
        samples=samples,
    )
