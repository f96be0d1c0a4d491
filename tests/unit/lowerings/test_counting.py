"""Counts beyond what half precision holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import coreml_runtime as runtime
from tests.unit.lowerings.agreement import convert


class Counts(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        below = x < 0.5
        return (
            below.sum().reshape(1),
            below.sum((2, 3)),
            below.sum(3, keepdim=True),
            torch.count_nonzero(below).reshape(1),
            below.sum(dtype=torch.int64).reshape(1),
        )


@pytest.mark.parametrize("method", ["trace", "export"])
def test_counts_are_integers_of_any_size(method: str, tmp_path: Path) -> None:
    # given pictures of more than 65504 pixels, of which all, none or an odd number is counted
    x = torch.zeros(1, 1, 256, 300)
    model, used = convert(Counts().eval(), [x], method=method, half=True)
    model.save(str(tmp_path / "m.mlpackage"))
    artifact = runtime.load(tmp_path / "m.mlpackage")
    assert any(name.startswith("sum") for name in used)
    # then
    x[0, 0, 0, :7] = 1
    for given in (torch.zeros_like(x), torch.ones_like(x), x):
        for (name, got), wanted in zip(artifact.predict({"x0": given.numpy()}).items(), Counts()(given), strict=True):
            assert got.tolist() == wanted.tolist(), name
