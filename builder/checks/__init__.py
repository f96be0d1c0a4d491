"""Every verdict on a build: one file a kind, and the function that reaches all that the recipe asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from builder.artifacts import CheckReport
from builder.checks.accuracy import check_accuracy
from builder.checks.capture import check_capture
from builder.checks.engine import engines
from builder.checks.parity import check_parity
from builder.checks.samples import check_samples
from builder.checks.states import StateCarry
from builder.checks.structure import check_structure
from builder.checks.subject import Subject
from builder.runtime.errors import RuntimeFailure
from builder.spec.checks import AccuracyCheck, CaptureCheck, Check, ParityCheck, StructureCheck
from builder.spec.coverage import synthetic_inputs
from builder.spec.functions import labelled


def run_checks(subjects: Sequence[Subject]) -> tuple[CheckReport, ...]:
    """Run every check of the recipe; one that cannot run reports why, and has not passed.

    `subjects` are the functions of the artifact in order, or the artifact itself where it has none.
    """
    reports: list[CheckReport] = []
    for name, check in subjects[0].spec.checks.items():
        kept = StateCarry()
        for subject in subjects:
            reports += _run(name, check, subject, kept)
    return tuple(reports)


def _run(check_name: str, check: Check, subject: Subject, kept: StateCarry) -> Iterator[CheckReport]:
    """Run one check, on every engine that this machine has when it executes the artifact."""
    name = labelled(check_name, subject.function)
    match check:
        case StructureCheck():
            yield check_structure(name, check, subject)
        case CaptureCheck():
            yield check_capture(name, check, subject)
        case ParityCheck() | AccuracyCheck():
            samples, lacking = check_samples(check_name, check, subject), synthetic_inputs(check, subject.spec)
            try:
                for engine in engines(subject, kept):
                    if isinstance(check, ParityCheck):
                        yield check_parity(name, check, subject, samples, engine, kept)
                    elif engine.samples is None:  # a share of a few says nothing
                        report = check_accuracy(name, check, subject, samples, engine.name, engine.execute)
                        yield replace(report, data={**samples.described(), "synthetic": list(lacking)})
            except RuntimeFailure as error:  # only our engine raises it, and an artifact that fails is not right
                yield _failed(name, check, f"the artifact cannot be executed: {error}")


def _failed(name: str, check: ParityCheck | AccuracyCheck, reason: str) -> CheckReport:
    return CheckReport(name=name, kind=check.kind, engine="runtime", values={}, limits={}, passed=False, reason=reason)
