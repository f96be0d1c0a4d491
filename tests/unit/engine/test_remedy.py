"""Changes that are tried where a build misses its limits."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from builder.analysis.numerics.samples import Missed
from builder.engine import remedy
from builder.engine.remedy import Remedy, _narrower, _plain, find_remedy
from builder.spec import BuildSpec
from builder.spec.precision import Fp32

X = {"kind": "tensor", "shape": [1, 8]}


def _spec(**inputs: Mapping[str, Any]) -> BuildSpec:
    return BuildSpec.model_validate(
        {
            "source": {"kind": "python", "factory": "some:thing"},
            "input": inputs,
            "precision": {"kind": "fp16"},
            "target": {"name": "ios16"},
            "tracking": {"kind": "none"},
        }
    )


def _tried(missed: Missed, **inputs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The sections that a promise of the app would change."""
    spec = _spec(**inputs)
    tried: list[Mapping[str, Any]] = []
    trials: Any = SimpleNamespace(spec=spec, missed=missed, build=lambda _, changes: tried.append(changes))
    _narrower(trials)
    return tried


def test_a_narrower_range_is_tried_where_inputs_beside_the_samples_miss_a_limit() -> None:
    whole = X | {"low": -2.0, "high": 2.0}
    (changes,) = _tried(Missed(check="parity", worst_input=b"a"), x=X, y=whole, i=X | {"dtype": "int32", "high": 9})
    # then what is pasted are the recipe's inputs, of which the one without a range has one
    section = {name: _plain(value) for name, value in changes.items()}
    lines = Remedy(what="a promise", section=section).lines()
    assert lines[0] == "tried, and all checks pass: a promise"
    pasted = yaml.safe_load("\n".join(line[3:] for line in lines[1:]))
    assert pasted["input"]["x"] == X | {"low": -1.0, "high": 1.0}
    assert pasted["input"]["y"] == whole


@pytest.mark.parametrize("missed", [Missed(), Missed(check="parity", failed_on={"y": (0,)})])
def test_no_range_is_tried_where_samples_miss_a_limit(missed: Missed) -> None:
    assert _tried(missed, x=X) == []


def test_no_range_is_tried_where_all_are_declared() -> None:
    assert _tried(Missed(check="parity", worst_input=b"a"), x=X | {"low": 0.0, "high": 1.0}) == []


def test_the_promise_of_a_range_is_shown_before_precision_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a model of which every change passes
    for name in ("try_out", "as_tried"):
        monkeypatch.setattr(remedy, name, lambda *_, **__: None)
    monkeypatch.setattr(remedy, "measured", lambda *_: SimpleNamespace(passes=True))
    monkeypatch.setattr(
        remedy, "_in_float32", lambda trials: trials.build("in float32", {"precision": Fp32(kind="fp32")})
    )
    monkeypatch.setattr(remedy, "replace", lambda request, **_: request)
    request: Any = SimpleNamespace(spec=_spec(x=X))
    said: list[str] = []
    # when
    found = find_remedy(request, Missed(check="parity", worst_input=b"a"), seconds=60, say=said.append)
    # then both are shown, and the one that asks nothing of the app is the answer
    shown = [line for line in said if line.startswith("tried")]
    assert shown == [
        f"tried, and all checks pass: {what}" for what in ("where the app gives nothing beyond 1", "in float32")
    ]
    assert found.remedy is not None
    assert found.remedy.section == {"precision": {"kind": "fp32"}}
