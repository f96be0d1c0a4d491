"""Buffers and modules that are called as properties of a compiled module are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from builder import runtime
from builder.backends.coreml.convert import convert
from builder.stages.capture import capture
from tests.unit.stages.test_capture import prepared_with


class Codebook(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("code", torch.randn(4))
        self.graph = nn.Linear(4, 4)
        self.save = nn.Parameter(torch.randn(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.graph(x) * self.code[None] + self.save


def test_a_buffer_called_code_and_a_module_called_graph_convert(tmp_path: Path) -> None:
    module = Codebook()
    prepared, examples, spec = prepared_with(nn.Sequential(module))
    captured = capture(prepared, examples, "trace", {}, strict=True)
    convert(prepared, captured, examples, spec).model.save(str(tmp_path / "m.mlpackage"))
    x = examples.samples[0].tensors["x"]
    found = runtime.load(tmp_path / "m.mlpackage").predict({"x": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(next(iter(found.values())), module(x).numpy(), rtol=1e-5, atol=1e-6)
