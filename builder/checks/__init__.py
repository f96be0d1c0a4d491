"""Every verdict on a build: one file a kind, and the function that reaches all that the recipe asks for."""

from __future__ import annotations

from builder.artifacts import CapturedProgram, CheckReport, ExampleInputs, PreparedModel, SealedPackage
from builder.checks.accuracy import check_accuracy
from builder.checks.capture import check_capture
from builder.checks.engine import engines
from builder.checks.parity import check_parity
from builder.checks.structure import check_structure
from builder.data import draw_samples
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.checks import AccuracyCheck, CaptureCheck, ParityCheck, StructureCheck
from builder.spec.data import Data, NoiseData, PhotographsData
from builder.spec.inputs import ImageInput


def run_checks(
    *,
    spec: BuildSpec,
    examples: ExampleInputs,
    prepared: PreparedModel,
    captured: CapturedProgram,
    sealed: SealedPackage,
    progress: Progress,
) -> tuple[CheckReport, ...]:
    """Run every check of the recipe; one that cannot run reports why, and has not passed."""
    reports: list[CheckReport] = []
    for name, check in spec.checks.items():
        match check:
            case StructureCheck():
                reports.append(check_structure(name, check, spec=spec, prepared=prepared, sealed=sealed))
            case CaptureCheck():
                reports.append(check_capture(name, check, prepared, captured, examples))
            case ParityCheck() | AccuracyCheck():
                reports += _executed(name, check, spec, prepared, sealed, progress)
    return tuple(reports)


def _executed(
    name: str,
    check: ParityCheck | AccuracyCheck,
    spec: BuildSpec,
    prepared: PreparedModel,
    sealed: SealedPackage,
    progress: Progress,
) -> list[CheckReport]:
    """Run a check that executes the artifact on every engine that this machine has."""
    samples = draw_samples(_data_of(check, spec), spec.input, check.samples, spec.seed)
    reports = []
    for engine, execute in engines(sealed, prepared, spec):
        if isinstance(check, ParityCheck):
            report = check_parity(
                name,
                check,
                spec=spec,
                prepared=prepared,
                samples=samples,
                engine=engine,
                execute=execute,
                progress=progress,
            )
        else:
            report = check_accuracy(
                name, check, prepared=prepared, samples=samples, engine=engine, execute=execute, progress=progress
            )
        reports.append(report)
    return reports


def _data_of(check: ParityCheck | AccuracyCheck, spec: BuildSpec) -> Data:
    if check.data is not None:
        return check.data
    images = any(isinstance(given, ImageInput) for given in spec.input.values())
    return PhotographsData(kind="photographs") if images else NoiseData(kind="noise")
