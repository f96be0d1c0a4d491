"""Checks that execute the artifact: on every engine that this machine has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from builder.artifacts.checks import CheckReport
from builder.checks.accuracy import check_accuracy
from builder.checks.engine import Engine, engines
from builder.checks.parity import check_parity
from builder.checks.plain import check_plain, judged_apart, with_plain
from builder.checks.samples import check_samples
from builder.checks.states import StateCarry
from builder.checks.subject import Subject
from builder.spec.checks import AccuracyCheck, ParityCheck
from builder.spec.coverage import synthetic_inputs
from coreml_runtime.errors import RuntimeFailure


def parity_reports(
    name: str, check_name: str, check: ParityCheck, subject: Subject, carry: StateCarry
) -> Iterator[CheckReport]:
    """Compare with the original on each engine."""
    samples = check_samples(check_name, check, subject)

    def on(engine: Engine) -> CheckReport:
        if engine.name != "runtime" or not judged_apart(subject):
            return check_parity(name, check, subject, samples, engine, carry)
        report = check_parity(name, check.model_copy(update={"search": 0.0}), subject, samples, engine, carry)
        return with_plain(report, check_plain(name, check, subject, samples))

    return _on_engines(name, check, subject, carry, on)


def accuracy_reports(
    name: str, check_name: str, check: AccuracyCheck, subject: Subject, carry: StateCarry
) -> Iterator[CheckReport]:
    """Count right answers on each engine; one that is for a few samples says nothing of shares."""
    samples, lacking = check_samples(check_name, check, subject), synthetic_inputs(check, subject.spec)

    def on(engine: Engine) -> CheckReport | None:
        if engine.samples is not None:
            return None
        report = check_accuracy(name, check, subject, samples, engine.name, engine.execute)
        return replace(report, data={**samples.described(), "synthetic": list(lacking)})

    return _on_engines(name, check, subject, carry, on)


def _on_engines(
    name: str,
    check: ParityCheck | AccuracyCheck,
    subject: Subject,
    carry: StateCarry,
    on: Callable[[Engine], CheckReport | None],
) -> Iterator[CheckReport]:
    try:
        for engine in engines(subject, carry):
            report = on(engine)
            if report is not None:
                yield report
    except RuntimeFailure as error:  # only our engine raises it, and an artifact that fails is not right
        reason = f"the artifact cannot be executed: {error}"
        yield CheckReport(
            name=name, kind=check.kind, engine="runtime", values={}, limits={}, passed=False, reason=reason
        )
