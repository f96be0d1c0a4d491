"""The measure stage: what conversion and each compression step cost; `builder.checks.steps` measures it.

Only builds with steps on the program and a parity check, which says on which samples, have this stage.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from builder.artifacts.stages import CapturedProgram, MeasuredSteps, PreparedModel, SealedPackage
from builder.backends import backend_of
from builder.checks.steps import measure_steps
from builder.checks.subject import Subject
from builder.progress import Progress
from builder.spec import BuildSpec
from coreml_runtime.errors import RuntimeFailure


def measure(
    spec: BuildSpec,
    *,
    prepared: PreparedModel,
    captured: CapturedProgram,
    sealed: SealedPackage,
    models: tuple[object, object],
    between: Sequence[Path],
    progress: Progress,
) -> MeasuredSteps | None:
    """The costs of an artifact's steps; None, with a warning, where a program cannot be executed.

    `models` are the backend's before the first step and after the last, `between` what all steps but the last made.
    """
    subject = Subject(spec=spec, prepared=prepared, captured=captured, sealed=sealed, progress=progress)
    with tempfile.TemporaryDirectory(prefix="builder-measure-") as folder:
        file, (first, last) = backend_of(spec.format).program_file, models
        programs = [file(first, Path(folder) / "first"), *between, file(last, Path(folder))]
        try:
            return measure_steps(subject, programs)
        except RuntimeFailure as error:
            message = f"what each compression step costs is not known: it cannot be executed: {error}"
            progress.warn(message, code="B0004")
            return None
