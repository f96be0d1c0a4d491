"""Operators on Core AI at NaN, infinities and zeros of either sign, against torch: one conversion, both engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import coreml_runtime as runtime
from builder.backends.coreai import engine
from builder.backends.coreai.conversion import Halves, convert
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


class Infinite(torch.nn.Module):
    """Infinity in numbers and in a buffer, returned, and in front of a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("limits", torch.tensor([torch.inf, 2.0, -torch.inf]))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        scores = x.masked_fill(x > 1, -torch.inf)
        kept = torch.where(x > 1, torch.inf, x)
        return kept * 1, torch.hypot(kept, x), x + self.limits, torch.softmax(scores, 1)


def test_infinity_in_half_precision(tmp_path: Path) -> None:
    # given a row of which nothing is left for the softmax
    x = torch.tensor([[0.5, 2.0, -1.0], [3.0, 1.0, 0.0], [2.0, 2.0, 2.0]])
    # when
    convert(export(Infinite(), (x,)), tmp_path / "m.aimodel", plain({"x": x}, 4), Halves())
    (found,), _ = engine.predict(tmp_path / "m.aimodel", [{"x": x.numpy()}])
    # then infinity is infinity, and weights of attention are numbers
    for number, wanted in enumerate(Infinite()(x)):
        wanted = torch.nan_to_num(wanted, 1 / 3) if number == 3 else wanted
        np.testing.assert_allclose(found[f"y{number}"], wanted.numpy(), rtol=2e-3, err_msg=str(number))
