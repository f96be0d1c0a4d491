"""Recurrent cells: one step, and compiled loops of them over a length that the app decides."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import coreml_runtime as runtime
from builder.artifacts.stages import LoadedModel
from builder.backends.coreml.convert import convert
from builder.data import make_examples
from builder.stages.capture import capture
from builder.stages.prepare import prepare
from tests.unit.lowerings.agreement import Case, agree, floats, ways
from tests.unit.stages.small_builds import make_spec

CELLS = (nn.GRUCell, nn.LSTMCell, nn.RNNCell)


def cells(rng: random.Random) -> Case:
    kind, bias = rng.choice(CELLS), rng.choice([True, False])
    torch.manual_seed(rng.randrange(1000))
    cell = kind(3, 4, bias=bias).requires_grad_(False)

    def step(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> object:
        return cell(x, (h, c)) if kind is nn.LSTMCell else cell(x, h) + c * 0

    return step, [floats(rng, 2, 3), floats(rng, 2, 4), floats(rng, 2, 4)]


@ways(cells)
def test_one_step(draw, method: str, half: bool, tmp_path: Path) -> None:
    agree(draw, method=method, half=half, folder=tmp_path, count=6)


class Gates(nn.Module):
    """GRUCell over all steps, with something else for some lengths; what it begins with has the batch's size."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(x.shape[0], 4)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        if x.shape[1] > 6 and x.shape[1] < 10:
            h = h * 2
        return h


class Memory(nn.Module):
    """LSTMCell over all steps, from zeros of a fixed size."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h, c = torch.zeros(2, 4), torch.zeros(2, 4)
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
        return h, c


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch.jit.script itself
@pytest.mark.parametrize("kind", [Gates, Memory])
def test_loops_over_a_flexible_length(kind: type[nn.Module], tmp_path: Path) -> None:
    # given
    torch.manual_seed(0)
    module = kind().eval().requires_grad_(False)
    size = {"min": 1, "max": 11, "default": 5}
    spec = make_spec(input={"x": {"kind": "tensor", "shape": [2, size, 3]}}, precision={"kind": "fp32"})
    examples = make_examples(spec)
    prepared = prepare(LoadedModel(module=module, digest="0" * 64, origin={}), examples, spec)
    # when
    captured = capture(prepared, examples, "script", {}, strict=True)
    convert(prepared, captured, examples, spec).model.save(str(tmp_path / "m.mlpackage"))
    artifact = runtime.load(tmp_path / "m.mlpackage")
    # then each length gives what torch gives
    for length in (1, 2, 5, 7, 10, 11):
        x = torch.randn(2, length, 3, generator=torch.Generator().manual_seed(length))
        returned = module(x)
        wanted = returned if isinstance(returned, tuple) else (returned,)
        for got, expected in zip(artifact.predict({"x": x.numpy()}).values(), wanted, strict=True):
            np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-6, err_msg=str(length))
