"""What `auto` cannot decide: where there is nothing to choose, nothing to meet, or nothing to measure."""

from __future__ import annotations

from collections.abc import Iterator

from builder.errors import Diagnostic
from builder.spec import BuildSpec
from builder.spec.checks import AccuracyCheck, ParityCheck
from builder.spec.compression import AutoCompression
from builder.spec.precision import AutoPrecision
from builder.spec.problems import Path, needs
from builder.spec.source_kinds import kind_of


def auto_problems(spec: BuildSpec) -> Iterator[Diagnostic]:
    """Yield what is wrong with leaving the precision or the compression open, each with the change that would help."""
    if isinstance(spec.precision, AutoPrecision):
        yield from _program(spec, ("precision",), "precision auto")
        if kind_of(spec.source).is_finished:
            yield Diagnostic(
                code="B0256",
                path=("precision",),
                message="precision auto chooses operators of a conversion, and a finished Core ML model has its own",
                hint="write `precision: fp16`, or fp32 or mixed: what the file computes in",
            )
        yield from _something_to_meet(spec, ("precision",), "precision auto")
    if spec.is_open and spec.functions:
        yield Diagnostic(
            code="B0256",
            path=("precision",) if isinstance(spec.precision, AutoPrecision) else ("compression",),
            message="auto measures one program, and the recipe has functions",
            hint="let auto choose for the model without functions, and write what it found into this recipe",
        )
    found = [name for name, step in spec.compression.items() if isinstance(step, AutoCompression)]
    for name in found:
        path = ("compression", name)
        yield from _program(spec, path, "compression auto")
        if spec.format_kind.is_program:
            yield from needs(spec.target, path, "compression auto", 16)
        if len(spec.compression) > 1:
            others = ", ".join(other for other in spec.compression if other != name)
            yield Diagnostic(
                code="B0256",
                path=path,
                message=f"auto decides about all weights, and {others} stands beside it",
                hint="choose `compression: auto` alone; what it finds is a recipe, to which steps can be added",
            )
        yield from _something_to_meet(spec, path, "compression auto")
        yield from _quality(spec, path, name)


def _program(spec: BuildSpec, path: Path, what: str) -> Iterator[Diagnostic]:
    if not spec.format_kind.is_program:
        yield Diagnostic(
            code="B0242",
            path=path,
            message=f"{what} is for ML programs, and the format is mlmodel",
            hint="write `format: mlpackage` with target ios16 or later",
        )


def _something_to_meet(spec: BuildSpec, path: Path, what: str) -> Iterator[Diagnostic]:
    if not any(isinstance(check, ParityCheck | AccuracyCheck) for check in spec.checks.values()):
        yield Diagnostic(
            code="B0256",
            path=path,
            message=f"{what} takes what passes the checks, and no check executes the artifact",
            hint="choose `checks: default`, or add a check of kind parity or accuracy with its limits",
        )


def _quality(spec: BuildSpec, path: Path, name: str) -> Iterator[Diagnostic]:
    step = spec.compression[name]
    assert isinstance(step, AutoCompression)
    if step.max_bytes is not None and not any(isinstance(check, ParityCheck) for check in spec.checks.values()):
        yield Diagnostic(
            code="B0256",
            path=(*path, "max_bytes"),
            message="the best artifact of a size is that with the highest SNR, which a check of kind parity measures",
            hint="choose `checks: default`, or leave max_bytes out",
        )
