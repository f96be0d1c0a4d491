"""The verify stage: every check of the recipe on the sealed artifact."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from builder.analysis.headroom.analyse import Place
from builder.analysis.headroom.checked import with_headroom
from builder.analysis.headroom.wide import with_wide_integers
from builder.artifacts.checks import VERDICTS, CheckReport
from builder.artifacts.stages import OriginalProgram, SealedPackage
from builder.backends import backend_of
from builder.checks import run_checks
from builder.checks.subject import Converted, Subject
from builder.progress import Progress
from builder.spec import BuildSpec


def verify(
    programs: Mapping[str, OriginalProgram],
    sealed: SealedPackage,
    progress: Progress,
    *,
    build_seconds: float = 0.0,
    places: Mapping[str, Mapping[str, Place]] | None = None,
    converted: Mapping[str, tuple[object, BuildSpec]] | None = None,
) -> tuple[CheckReport, ...]:
    """Run the checks; a missed limit is in the reports, not raised.

    `programs` are by the name of the function of the artifact, one under an empty name where it has none;
    `build_seconds` is how much processor time the build took so far, of which checks may take a share; `places` say by
    function and name where operators come from; `converted` are by function of a compressed artifact the backend's
    models before steps on the program, with the recipe without compression.
    """
    file = backend_of(sealed.format).program_file
    with tempfile.TemporaryDirectory(prefix="builder-verify-") as folder:
        files = {
            name: Converted(path=file(model, Path(folder) / (name or "main")), spec=spec)
            for name, (model, spec) in (converted or {}).items()
        }
        return _verified(programs, sealed, progress, build_seconds, places or {}, files)


def _verified(
    programs: Mapping[str, OriginalProgram],
    sealed: SealedPackage,
    progress: Progress,
    build_seconds: float,
    places: Mapping[str, Mapping[str, Place]],
    converted: Mapping[str, Converted],
) -> tuple[CheckReport, ...]:
    subjects = [
        Subject(
            spec=program.spec,
            prepared=program.prepared,
            captured=program.captured,
            sealed=sealed,
            progress=progress,
            function=name,
            build_seconds=build_seconds,
            converted=converted.get(name),
        )
        for name, program in programs.items()
    ]
    return with_wide_integers(with_headroom(run_checks(subjects), subjects, places), subjects)


def describe_checks(reports: tuple[CheckReport, ...]) -> str:
    """One line: how many have which verdict."""
    verdicts = [report.verdict for report in reports]
    parts = [f"{verdicts.count(word)} {word}" for word in VERDICTS if word in verdicts]
    return ", ".join(parts) or "no checks"
