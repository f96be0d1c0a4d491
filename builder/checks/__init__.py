"""Every verdict on a build: one file a kind (`builder.spec.check_kinds` names them), and what runs all of a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from builder.artifacts.checks import CheckReport
from builder.checks.states import StateCarry
from builder.checks.subject import Subject
from builder.spec.check_kinds import Check, check_kind
from builder.spec.functions import labelled
from builder.util.lazy import call


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


def _run(check_name: str, check: Check, subject: Subject, carry: StateCarry) -> Iterator[CheckReport]:
    """Run one check, on every engine that this machine has when it executes the artifact."""
    name = labelled(check_name, subject.function)
    arguments = {"name": name, "check_name": check_name, "check": check, "subject": subject, "carry": carry}
    yield from call(check_kind(check).run, arguments)
