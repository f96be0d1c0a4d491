"""Changes that are tried where a build misses its limits."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from builder.analysis.numerics.samples import Missed
from builder.engine.remedy import Remedy, _narrower, _plain
from builder.spec import BuildSpec

X = {"kind": "tensor", "shape": [1, 8]}


def _tried(missed: Missed, **inputs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The sections that a promise of the app would change."""
    spec = BuildSpec.model_validate(
        {
            "source": {"kind": "python", "factory": "some:thing"},
            "input": inputs,
            "precision": {"kind": "fp16"},
            "target": {"name": "ios16"},
            "tracking": {"kind": "none"},
        }
    )
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
