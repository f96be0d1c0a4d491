"""Models that neither trace nor export reads as they are: gradients and functional transforms within forward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from builder import runtime
from builder.backends.coreml.convert import convert
from builder.errors import ConversionError
from builder.model.capture.recorded import recorded
from builder.stages.capture import capture
from tests.unit.stages.test_capture import prepared_with


class Forces(nn.Module):
    """An energy of positions (N, 3), and its gradient by them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 8)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            places = x.detach().requires_grad_(True)
            energy = torch.tanh(self.layer(places)).sum()
            (slope,) = torch.autograd.grad(energy, places)
        return energy.detach(), -slope


class Slopes(nn.Module):
    """Gradients of each row by itself, and products of rows, by functional transforms: (N, 3) to (N, 3) and (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        def height(row: torch.Tensor) -> torch.Tensor:
            return torch.sin(self.layer(row)).squeeze(0)

        return torch.vmap(torch.func.grad(height))(x), torch.vmap(torch.dot)(x, x)


class Decided(nn.Module):
    """Gradients, and a branch on a value."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (slopes,) = Forces()(x)[1:]
        return slopes if x.sum() > 0 else -slopes


@pytest.mark.parametrize("model", [Forces(), Slopes()], ids=["forces", "slopes"])
def test_gradients_within_forward_convert(model: nn.Module, tmp_path: Path) -> None:
    prepared, examples, spec = prepared_with(model, input={"x": {"kind": "tensor", "shape": [5, 3]}})
    captured = capture(prepared, examples, "export", {}, strict=True)
    convert(prepared, captured, examples, spec).model.save(str(tmp_path / "m.mlpackage"))
    found = runtime.load(tmp_path / "m.mlpackage")

    for sample in examples.samples[:2]:
        x = sample.tensors["x"]
        for got, wanted in zip(found.predict({"x": x.numpy()}).values(), model(x), strict=True):
            np.testing.assert_allclose(np.asarray(got).reshape(wanted.shape), wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_a_branch_on_a_value_is_not_recorded() -> None:
    prepared, examples, _ = prepared_with(Decided(), input={"x": {"kind": "tensor", "shape": [5, 3]}})
    with pytest.raises(ConversionError):
        capture(prepared, examples, "export", {})


def test_parameters_keep_their_names() -> None:
    program = recorded(Forces().requires_grad_(False), (torch.ones(5, 3),))
    assert {"layer_weight", "layer_bias"} <= {node.target for node in program.graph.nodes if node.op == "get_attr"}
