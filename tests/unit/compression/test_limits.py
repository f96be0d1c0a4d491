"""The limit of parity that each compression has unless the recipe gives its own."""

from __future__ import annotations

from typing import Any

import pytest

from builder.checks.limits import parity_limits
from builder.spec.checks import ParityCheck
from tests.unit.compression.small_net import spec_for

INT8 = {"kind": "linear_quantize"}
SIX = {"kind": "palettize", "nbits": 6}


@pytest.mark.parametrize(
    ("steps", "least"),
    [
        ([INT8], 20),
        ([INT8 | {"dtype": "uint8"}], 20),
        ([{"kind": "palettize", "nbits": 8}], 20),
        ([SIX], 10),
        ([SIX, INT8 | {"granularity": "per_tensor"}], 10),
        ([INT8, {"kind": "palettize", "mode": "unique", "nbits": None}], 20),
        ([INT8 | {"dtype": "int4"}], None),
        ([{"kind": "palettize", "nbits": 8, "cluster_dim": 2}], None),
        ([{"kind": "palettize", "nbits": 4}], None),
        ([{"kind": "prune", "target_sparsity": 0.5}, SIX], None),
    ],
)
def test_the_coarsest_step_decides(steps: list[dict[str, Any]], least: float | None) -> None:
    spec = spec_for("ios18", **{f"s{index}": step for index, step in enumerate(steps)})
    limits = parity_limits(spec, ParityCheck(kind="parity"))
    assert {name: limit.min for name, limit in limits.items()} == ({} if least is None else {"snr_db": least})
