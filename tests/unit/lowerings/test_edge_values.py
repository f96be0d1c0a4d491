"""Operators of an ML program at NaN, infinities and zeros of either sign, against torch: one conversion for all."""

from __future__ import annotations

from pathlib import Path

import pytest

import coreml_runtime as runtime
from tests.unit.edge_values import INPUTS, Sweep, check_sweep
from tests.unit.lowerings.agreement import convert


@pytest.mark.parametrize("method", ["trace", pytest.param("export", marks=pytest.mark.slow)])
def test_edge_values(method: str, tmp_path: Path) -> None:
    model, _ = convert(Sweep().eval(), INPUTS, method=method, half=False)
    model.save(str(tmp_path / "m.mlpackage"))
    given = {f"x{number}": tensor.numpy() for number, tensor in enumerate(INPUTS)}
    check_sweep(runtime.load(tmp_path / "m.mlpackage").predict(given))
