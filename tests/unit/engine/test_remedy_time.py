"""Which trials of a change begin when there is hardly any time left."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from builder.analysis.numerics.samples import Missed
from builder.engine import remedy


def test_the_second_trial_begins_though_the_first_took_most_of_the_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    request: Any = _Request()
    trials = remedy._Trials(
        request=request, missed=Missed(), workspace=tmp_path, until=time.monotonic() + 100, say=lambda _: None
    )
    monkeypatch.setattr(remedy, "replace", lambda given, **_: given)
    monkeypatch.setattr(remedy, "try_out", _refuse)
    trials.longest = 90.0
    assert trials.build("where the app gives less", {}) is None
    trials.longest = 200.0
    assert trials.build("everything in float32", {}) is None
    with pytest.raises(remedy._OutOfTimeError):
        trials.build("a third", {})
    assert len(trials.failed) == 2


class _Request:
    @property
    def spec(self) -> _Request:
        return self

    def model_copy(self, update: object) -> _Request:
        return self


def _refuse(*_: object, **__: object) -> None:
    raise remedy.BuilderError("refused", code="B0401")
