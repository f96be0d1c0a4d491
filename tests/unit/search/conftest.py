"""Searches and trials that say only what a test is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from builder.search.settings import Search
from builder.search.trials import Trial

MakeSearch = Callable[..., Search]

SPACE: dict[str, Any] = {
    "method": {"setting": "compression", "kind": "choice", "choices": ["none", "int8", ["prune_50", "int8"]]},
    "precision": {"kind": "choice", "choices": ["fp16", "fp32"]},
    "bits": {"setting": "a.bits", "kind": "integer", "min": 2, "max": 8, "step": 2, "when": {"method": ["int8"]}},
}
OBJECTIVES: dict[str, Any] = {
    "size": {"measure": "artifact.bytes", "goal": "minimize"},
    "quality": {"measure": "checks.parity.snr_db", "goal": "maximize"},
}


@pytest.fixture
def make_search() -> MakeSearch:
    """Make a search with two objectives, over a small space unless another is given."""

    def make(**more: Any) -> Search:
        return Search.model_validate({"space": SPACE, "objectives": OBJECTIVES, **more})

    return make


def trial(number: int, size: float = 0.0, quality: float = 0.0, **more: Any) -> Trial:
    values = {"size": size, "quality": quality}
    return Trial(**{"number": number, "point": {}, "arguments": (), "state": "complete", "values": values, **more})
