"""With `capture.method: auto`: another method of capture, where the program of the first may be why a check fails."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.engine.table import CAPTURE, VERIFY
from builder.engine.table.method import CaptureMethodMemo
from builder.errors import BuilderError
from builder.model.capture.methods import methods_to_try
from builder.spec.check_kinds import check_named
from builder.spec.precision import Fp32

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.artifacts.checks import CheckReport
    from builder.artifacts.stages import BuildRequest
    from builder.engine.run import Run


def note_better_capture(run: Run, try_out: Callable[..., Run]) -> bool:
    """Try the methods of capture behind the one that was taken, by builds of their own, until all checks pass.

    Returns whether one did: the store knows it then, and the build, begun anew, takes it. Nothing is tried where the
    recipe names a method, or where another program would not help: the trace recorded no value as a constant, the
    capture check passes, and what fails may as well be half precision or compression.
    """
    missed = [report for report in run[VERIFY].value() if report.passed is False]
    if run.spec.capture.method != "auto" or not missed or not _may_be_the_program(run, missed):
        return False
    methods = methods_to_try(run.spec)
    for method in methods[methods.index(run.first.method) + 1 :]:
        if _passes(run, method, try_out):
            reason = f"{missed[0].name} misses a limit"
            for function in run.functions.values():
                memo = CaptureMethodMemo(function, checked=True)
                memo.remember(method, {**function.failures, function.method: reason})
            run.context.progress.warn(
                f"captured by {run.first.method}, {reason} ({str(missed[0].reason).partition('; ')[0]}); captured by "
                f"{method}, all checks pass: the build goes on with that",
                code="B0006",
            )
            return True
    return False


def _may_be_the_program(run: Run, missed: Sequence[CheckReport]) -> bool:
    if any(kind.by_output and not kind.executes for kind in (check_named(report.kind) for report in missed)):
        return True  # outputs differ before there is an artifact
    if any(function[CAPTURE].facts.frozen for function in run.functions.values()):
        return True
    return isinstance(run.spec.precision, Fp32) and not run.spec.compression


def _passes(run: Run, method: str, try_out: Callable[..., Run]) -> bool:
    spec = run.spec.model_copy(update={"capture": run.spec.capture.model_copy(update={"method": method})})
    request: BuildRequest = replace(run.context.request, spec=spec)
    with tempfile.TemporaryDirectory(prefix="builder-recapture-") as folder:
        try:
            tried = try_out(request, folder=Path(folder))
        except BuilderError as error:
            run.context.progress.detail(f"captured by {method}: {error.message.splitlines()[0]}")
            return False
        reports = tried[VERIFY].value()
    return all(report.passed is not False for report in reports)
