"""The sealed artifact, executed, classifies labelled data as well as the original does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from builder.artifacts import CheckReport, Sample
from builder.checks.bounds import accuracy_bounds
from builder.checks.comparison import describe
from builder.checks.engine import Execute
from builder.checks.subject import Subject
from builder.errors import SourceError
from builder.nearest import did_you_mean
from builder.spec.checks import AccuracyCheck


def check_accuracy(
    name: str, check: AccuracyCheck, subject: Subject, samples: Sequence[Sample], engine: str, execute: Execute
) -> CheckReport:
    """Count right answers of both; `original` is the model before any substitution."""
    labels, output = subject.prepared.labels, subject.scores
    assert labels is not None, "compatibility demands a classifier"
    assert output is not None, "compatibility demands a classifier"
    right = original_right = agreed = done = 0
    with subject.progress.bar(f"{name} ({engine})", len(samples), unit="it") as advance:
        for sample in samples:
            wanted = right_class(sample.label, labels, key=f"checks.{name}.data")
            answer = int(execute(sample)[output].argmax())
            reference = subject.run_original(subject.prepared.reference, sample)[output]
            original_answer = int(reference.argmax())
            right += answer == wanted
            original_right += original_answer == wanted
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


def right_class(label: str | int | None, labels: Sequence[str], *, key: str) -> int:
    """The number of the class that a label of the data names; raises SourceError when the model has no such class."""
    if label is None:
        raise SourceError("the data has no labels, and accuracy needs them", key=key)
    if isinstance(label, int) and 0 <= label < len(labels):
        return label
    if isinstance(label, int):
        raise SourceError(f"the data has label {label}, and the model's classes are 0 to {len(labels) - 1}", key=key)
    if label not in labels:
        hint = did_you_mean(label, labels) or f"the model's {len(labels)} classes begin with {', '.join(labels[:5])}"
        raise SourceError(f"the data has label {label}, which the model lacks", hint=hint, key=key)
    return labels.index(label)


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
