"""The verify stage: every check of the recipe on the sealed artifact."""

from __future__ import annotations

from builder.artifacts import CapturedProgram, CheckReport, PreparedModel, SealedPackage
from builder.checks import run_checks
from builder.checks.subject import Subject
from builder.progress import Progress
from builder.spec import BuildSpec


def verify(
    spec: BuildSpec,
    prepared: PreparedModel,
    captured: CapturedProgram,
    sealed: SealedPackage,
    progress: Progress,
) -> tuple[CheckReport, ...]:
    """Run the checks; a missed limit is in the reports, not raised."""
    return run_checks(Subject(spec=spec, prepared=prepared, captured=captured, sealed=sealed, progress=progress))


def describe_checks(reports: tuple[CheckReport, ...]) -> str:
    """One line: how many passed, missed, and were not judged."""
    counts = {"passed": True, "missed": False, "not judged": None}
    said = [
        f"{number} {word}" for word, verdict in counts.items() if (number := sum(r.passed is verdict for r in reports))
    ]
    return ", ".join(said) or "no checks"
