"""Operators on Core AI at NaN, infinities and zeros of either sign, against torch: one conversion, both engines."""

from __future__ import annotations

from pathlib import Path

import coreml_runtime as runtime
from builder.backends.coreai import engine
from builder.backends.coreai.conversion import convert
from tests.unit.backends.coreai.conftest import export, plain
from tests.unit.edge_values import INPUTS, NAMES, Sweep, check_sweep


def test_edge_values(tmp_path: Path) -> None:
    given = {f"x{number}": tensor for number, tensor in enumerate(INPUTS)}
    asset = tmp_path / "m.aimodel"
    convert(export(Sweep(), tuple(INPUTS)), asset, plain(given, len(NAMES)), None)
    arrays = {name: tensor.numpy() for name, tensor in given.items()}
    (found,), _ = engine.predict(asset, [arrays])
    check_sweep(found)
    check_sweep(runtime.load(asset).predict(arrays))
