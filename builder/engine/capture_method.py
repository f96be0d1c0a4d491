"""Which method of capture did both capture and conversion: what `auto` learnt in an earlier build."""

from __future__ import annotations

from builder.artifacts import BuildRequest, PreparedModel
from builder.engine.records import names_digest
from builder.engine.runner import Stage, StageRunner
from builder.store.actions import ActionResult
from builder.store.keys import stage_key

NAME = "method"
"""Under this name the store keeps it, beside the results of stages."""


class CaptureMethodMemo:
    """The choice for one prepared model and one conversion: both decide, since both can fail."""

    def __init__(self, request: BuildRequest, prepared: Stage[PreparedModel], runner: StageRunner) -> None:
        self._is_open = request.spec.capture.method == "auto"
        self._runner = runner
        self._inputs = {
            **{f"capture {name}": value for name, value in runner.inputs("capture", {}).items()},
            **runner.inputs("convert", {"prepare": prepared.output, "names and labels": names_digest(prepared)}),
        }
        self._key = stage_key(NAME, self._inputs)

    def recall(self) -> tuple[tuple[str, ...], dict[str, str]] | None:
        """Return the method to take, and why those before it did not work; None where that is not known."""
        found = self._runner.store.find(NAME, self._key) if self._is_open else None
        return None if found is None else ((found.record["method"],), dict(found.record["failures"]))

    def remember(self, method: str, failures: dict[str, str]) -> None:
        """Keep what was learnt, if it is new: the first method needs no note."""
        if self._is_open and failures and not self._runner.is_peek and self.recall() is None:
            record = {"method": method, "failures": failures}
            action = ActionResult(
                stage=NAME, key=self._key, inputs=self._inputs, output=method, line=method, record=record
            )
            self._runner.store.put(action)
