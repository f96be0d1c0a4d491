"""Capture and convert with the first method that does both: with `capture.method: auto` a method can fail at either."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from builder.analysis.preflight.explain import explained
from builder.artifacts.stored import MethodFacts
from builder.engine.run import Run, Scope
from builder.engine.serialize import dump
from builder.engine.table.capture import CAPTURE
from builder.engine.table.convert import CONVERT
from builder.engine.table.prepare import PREPARE, names_digest
from builder.errors import ConversionError
from builder.model.capture.methods import methods_to_try
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.store.actions import ActionResult
from builder.store.keys import stage_key

if TYPE_CHECKING:  # a cached build must not import torch
    from builder.backends.coreml.preflight.obstacles import Diagnosis

NAME = "method"
"""Under this name the store keeps it, with the results of stages."""


class CaptureMethodMemo:
    """The choice for one prepared model and one conversion: both decide, since both can fail.

    With `checked` it is the choice for the recipe's checks as well, which the first method's program does not pass.
    """

    def __init__(self, run: Run, *, checked: bool = False) -> None:
        self._is_open = run.spec.capture.method == "auto"
        self._runner = run.context.runner
        prepared = run[PREPARE]
        after = {"prepare": prepared.output, "names and labels": names_digest(prepared)}
        self._inputs = {
            **{f"capture {name}": value for name, value in self._runner.inputs("capture", run.spec, {}).items()},
            **self._runner.inputs("convert", run.spec, after),
            **({f"verify {name}": value for name, value in self._checks(run)} if checked else {}),
        }
        self._key = stage_key(NAME, self._inputs)

    def _checks(self, run: Run) -> Iterable[tuple[str, object]]:
        return self._runner.inputs("verify", run.spec, {}).items()

    def recall(self) -> tuple[tuple[str, ...], dict[str, str]] | None:
        """Return the method to take, and why those before it did not work; None where that is not known."""
        found = self._runner.find(NAME, self._key, MethodFacts) if self._is_open else None
        return None if found is None else ((found[1].method,), dict(found[1].failures))

    def remember(self, method: str, failures: dict[str, str]) -> None:
        """Store what was learnt, if it is new: the first method needs no note."""
        if self._is_open and failures and not self._runner.is_peek and self.recall() is None:
            record, _ = dump(MethodFacts(method=method, failures=failures), self._runner.store.objects)
            action = ActionResult(
                stage=NAME,
                key=self._key,
                inputs=self._inputs,
                output=method,
                line=method,
                record=record,
            )
            self._runner.store.put(action)


class _CaptureAndConvert:
    """Two stages as one step of the table; the reasons why earlier methods failed stay with the run."""

    names = (CAPTURE.name, CONVERT.name)
    scope: Scope = "function"

    def applies(self, spec: BuildSpec) -> bool:  # noqa: ARG002 - every recipe has them
        """Every recipe has them."""
        return True

    def execute(self, run: Run) -> None:
        """Try the methods; the store also knows which did it, so that those that fail are not tried in every build."""
        memo, progress = CaptureMethodMemo(run), run.context.progress
        checked = CaptureMethodMemo(run, checked=True)
        methods, failures = checked.recall() or memo.recall() or (methods_to_try(run.spec), {})
        for run.method in methods:
            try:
                CAPTURE.execute(run)
                CONVERT.execute(run)
            except ConversionError as error:
                run.results.pop(CAPTURE, None)
                failures[run.method] = error.message
                if run.method == methods[-1]:
                    raise explained(error, failures, lambda: _examined(run), progress) from error
                progress.detail(f"{run.method}: {error.message}; trying the next method")
            else:
                memo.remember(run.method, failures)
                run.failures = failures
                _warn_of_frozen(run[CAPTURE].facts.frozen, progress)
                return
        raise AssertionError("methods_to_try is never empty")


def _examined(run: Run) -> Diagnosis:
    from builder.engine.diagnose import examine_run

    return examine_run(run)


CAPTURE_AND_CONVERT = _CaptureAndConvert()


def _warn_of_frozen(frozen: tuple[str, ...], progress: Progress) -> None:
    if frozen:
        rest = f", and in {len(frozen) - 1} more places" if len(frozen) > 1 else ""
        progress.warn(
            f"the trace records as a constant, for every input, {frozen[0]}{rest}: `capture.method=script` keeps "
            "branches and loops, and `doctor` names all places",
            code="B0006",
        )
