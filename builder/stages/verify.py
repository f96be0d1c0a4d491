"""The verify stage: every check of the recipe on the sealed artifact."""

from __future__ import annotations

from collections.abc import Mapping

from builder.analysis.headroom.analyse import Place
from builder.analysis.headroom.checked import with_headroom
from builder.artifacts.checks import VERDICTS, CheckReport
from builder.artifacts.stages import OriginalProgram, SealedPackage
from builder.checks import run_checks
from builder.checks.subject import Subject
from builder.progress import Progress


def verify(
    programs: Mapping[str, OriginalProgram],
    sealed: SealedPackage,
    progress: Progress,
    *,
    build_seconds: float = 0.0,
    places: Mapping[str, Mapping[str, Place]] | None = None,
) -> tuple[CheckReport, ...]:
    """Run the checks; a missed limit is in the reports, not raised.

    `programs` are by the name of the function of the artifact, one under an empty name where it has none;
    `build_seconds` is how much processor time the build took so far, of which checks may take a share; `places` say by
    function and name where operators come from.
    """
    subjects = [
        Subject(
            spec=program.spec,
            prepared=program.prepared,
            captured=program.captured,
            sealed=sealed,
            progress=progress,
            function=name,
            build_seconds=build_seconds,
        )
        for name, program in programs.items()
    ]
    return with_headroom(run_checks(subjects), subjects, places or {})


def describe_checks(reports: tuple[CheckReport, ...]) -> str:
    """One line: how many have which verdict."""
    verdicts = [report.verdict for report in reports]
    parts = [f"{verdicts.count(word)} {word}" for word in VERDICTS if word in verdicts]
    return ", ".join(parts) or "no checks"
