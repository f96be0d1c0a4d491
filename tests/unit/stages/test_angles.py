"""Sines of positions, times and coordinates in half precision: what makes their angles stays in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import coreml_runtime as runtime
from builder.util.measures import compare
from tests.unit.stages.small_builds import convert_module, make_spec, operators


class Times(nn.Module):
    """Embeds a time (1,) as (1, 64), as diffusion models do, and passes it through a layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(64, 16)

    def forward(self, time: Tensor) -> Tensor:
        angles = time[:, None].float() * torch.exp(torch.arange(32) * (-9.2 / 32))
        return self.layer(torch.cat([angles.cos(), angles.sin()], -1))


class Rotary(nn.Module):
    """Turns pairs of a layer's values (1, length, 16) by their positions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(16, 16)
        self.register_buffer("frequencies", 10000 ** (-torch.arange(8) / 8))

    def forward(self, x: Tensor) -> Tensor:
        angles = torch.outer(torch.arange(x.shape[1]).float(), self.get_buffer("frequencies"))
        a, b = self.layer(x).chunk(2, dim=-1)
        return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)


class Oscillator(nn.Module):
    """A sine whose phase is the sum of the frequencies (1, 4000) so far, in steps of 1/8000 s."""

    def forward(self, frequency: Tensor) -> Tensor:
        return torch.sin(2 * torch.pi * torch.cumsum(frequency / 8000, 1))


class Periodic(nn.Module):
    """Two layers with sines between, of which the second has no exact angle."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(2, 32), nn.Linear(32, 8)

    def forward(self, place: Tensor) -> Tensor:
        return torch.sin(self.second(torch.sin(30 * self.first(place)).relu()))


def tensor(*shape: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "tensor", "shape": list(shape), **more}


@pytest.mark.parametrize(
    ("module", "given", "value"),
    [
        (Times(), tensor(1, dtype="int32", high=1000), np.array([989], np.int32)),
        (Times(), tensor(1, low=0, high=1000), np.array([989.3], np.float32)),
        (Rotary(), tensor(1, {"min": 1, "max": 5000, "default": 8}, 16), np.ones((1, 5000, 16), np.float32)),
        (Oscillator(), tensor(1, 4000, low=0, high=900), np.full((1, 4000), 440.3, np.float32)),
    ],
    ids=["steps", "times", "rotary", "oscillator"],
)
def test_sines_of_large_exact_angles_are_right(
    module: nn.Module, given: dict[str, Any], value: np.ndarray, tmp_path: Path
) -> None:
    # given a model whose angles reach hundreds of radians, and half precision
    converted = convert_module(module, make_spec(input={"x": given}))
    converted.model.save(str(tmp_path / "m.mlpackage"))
    (found,) = runtime.load(tmp_path / "m.mlpackage").predict({"x": value}).values()
    with torch.no_grad():
        wanted = module.eval()(torch.from_numpy(value))
    assert compare(wanted, found).snr_db > 55  # 26 dB where the angles are halves


def test_layers_behind_an_angle_stay_in_half_precision() -> None:
    converted = convert_module(Periodic(), make_spec(input={"x": tensor(1, 2)}))
    whole: dict[str, list[bool]] = {kind: [] for kind in ("sin", "linear")}
    for op in operators(converted):
        if op.op_type in whole:
            whole[op.op_type].append(op.outputs[0].is_tensor_or_scalar_of(dtype="fp32"))
    assert whole == {"sin": [True, False], "linear": [True, False]}
