"""Where no mixture that passes is smaller, the answer is the best method for all layers, as a recipe would say it."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from builder.auto.compression import choose_compression
from builder.spec.compression import AutoCompression, WeightCompression
from builder.spec.target import Target

SIZES = {"int8": 500, "palettize_8": 510, "palettize_6": 400, "palettize_4": 300, "palettize_2": 200, "prune_50": 600}
FAILS = ("palettize_2", "prune_50")


@pytest.mark.parametrize(
    ("mixtures_pass", "said", "least"), [(False, "palettize_4 for all layers", 300), (True, "", 0)]
)
def test_the_best_uniform_method_is_among_the_answers(mixtures_pass: bool, said: str, least: int) -> None:
    # given methods of which palettize_4 is the smallest that passes, and mixtures that pass, or not
    tried: dict[str, int] = {}

    def attempt(what: str, steps: Mapping[str, WeightCompression]) -> Any:
        option = what.split()[0]
        size = 1000 if not steps else SIZES.get(option, 290 - len(tried))
        passes = option not in FAILS if option != "mixture" else mixtures_pass
        tried[what] = size
        return SimpleNamespace(
            what=what, bytes=size, passes=passes, spec=SimpleNamespace(program_compression=dict(steps)), snr_db=30.0
        )

    def measure(plain: Any, uniform: Mapping[str, Any]) -> Mapping[str, Any]:
        costs = {"none": [500, 0.0], **{option: [size // 2, 1.0 / size] for option, size in SIZES.items()}}
        return {"layers": [{"weights": [name], "costs": costs} for name in ("a", "b")]}

    # when
    found = choose_compression(AutoCompression(kind="auto"), Target(name="ios16"), attempt, measure)
    # then it is palettize_4 where nothing smaller passes, and else a mixture
    assert any(what.startswith("mixture") for what in tried)
    if mixtures_pass:
        assert all(step.names for step in found.steps.values())
    else:
        assert found.summary == f"compression {said}"
        assert list(found.steps) == ["palettize_4"]
        assert found.steps["palettize_4"].names is None
        assert tried[said] == least
