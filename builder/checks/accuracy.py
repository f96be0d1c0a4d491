"""The sealed artifact, executed, classifies labelled data as well as the original does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import torch

from builder.artifacts.checks import CheckReport
from builder.artifacts.stages import Sample
from builder.checks.bounds import accuracy_bounds
from builder.checks.comparison import describe
from builder.checks.engine import Execute
from builder.checks.subject import Subject
from builder.errors import SourceError
from builder.spec.base import Limit
from builder.spec.checks import AccuracyCheck
from builder.util.suggest import did_you_mean


def check_accuracy(
    name: str, check: AccuracyCheck, subject: Subject, samples: Sequence[Sample], engine: str, execute: Execute
) -> CheckReport:
    """Count right answers of both; `original` is the model before any substitution."""
    labels, output = subject.prepared.labels, subject.scores
    assert labels is not None, "compatibility demands a classifier"
    assert output is not None, "compatibility demands a classifier"
    counts: Counter[str] = Counter()
    with subject.progress.bar(f"{name} ({engine})", len(samples), unit="it") as advance:
        for done, sample in enumerate(samples, start=1):
            wanted = right_class(sample.label, labels, key=f"checks.{name}.data")
            answers = best_classes(execute(sample)[output])
            original = best_classes(subject.run_original(subject.prepared.reference, sample)[output])
            counts["accuracy"] += answers[0] == wanted
            counts["original_accuracy"] += original[0] == wanted
            counts["top5_accuracy"] += wanted in answers
            counts["original_top5_accuracy"] += wanted in original
            counts["top1_agreement"] += answers[0] == original[0]
            counts["top5_agreement"] += original[0] in answers
            right, original_right = counts["accuracy"], counts["original_accuracy"]
            subject.progress.bound(partial(accuracy_bounds, name, right, original_right, done, len(samples)))
            advance(1)
    values = {measure: count / len(samples) for measure, count in counts.items()}
    values["drop"] = (counts["original_accuracy"] - counts["accuracy"]) / len(samples)
    values["top5_drop"] = (counts["original_top5_accuracy"] - counts["top5_accuracy"]) / len(samples)
    limits = _limits(check)
    failures = [
        f"{key} is {values[key]:.4g}, and the limit is {describe(limit)}"
        for key, limit in limits.items()
        if not limit.holds(values[key])
    ]
    if not limits:
        return _report(name, check, engine, values, None, "no limit is given", len(samples))
    return _report(name, check, engine, values, not failures, "; ".join(failures) or None, len(samples))


def best_classes(scores: torch.Tensor) -> list[int]:
    """The numbers of the five best classes, or of all where there are fewer, the best first."""
    order: list[int] = scores.flatten().sort(descending=True, stable=True).indices[:5].tolist()
    return order


def _limits(check: AccuracyCheck) -> dict[str, Limit]:
    """The limits that the recipe says, by measure."""
    given = {name: getattr(check, name) for name in AccuracyCheck.model_fields}
    return {name: limit for name, limit in given.items() if isinstance(limit, Limit)}


def right_class(label: str | int | None, labels: Sequence[str], *, key: str) -> int:
    """The number of the class that a label of the data names; raises SourceError when the model has no such class."""
    if label is None:
        raise SourceError("the data has no labels, and accuracy needs them", code="B0332", key=key)
    if isinstance(label, int) and 0 <= label < len(labels):
        return label
    if isinstance(label, int):
        raise SourceError(
            f"the data has label {label}, and the model's classes are 0 to {len(labels) - 1}", code="B0332", key=key
        )
    if label not in labels:
        hint = did_you_mean(label, labels) or f"the model's {len(labels)} classes begin with {', '.join(labels[:5])}"
        raise SourceError(f"the data has label {label}, which the model lacks", code="B0332", hint=hint, key=key)
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
    return CheckReport(
        name=name,
        kind=check.kind,
        engine=engine,
        values=values,
        limits={key: limit.model_dump(exclude_none=True) for key, limit in _limits(check).items()},
        passed=passed,
        reason=reason,
        samples=samples,
    )
