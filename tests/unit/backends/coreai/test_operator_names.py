"""What `debug` calls an operator of an asset is a name that `precision.fp32_op_types` takes for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from builder.analysis.numerics.assets import asset_nodes
from builder.backends.coreai.conversion import Halves, convert
from tests.unit.backends.coreai.conftest import export, plain


class _Layers(torch.nn.Module):
    """One of each operator that the dialect has under another name than torch and MIL."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 4, 3, padding=1)
        self.back = torch.nn.ConvTranspose2d(4, 4, 3, padding=1)
        self.volume = torch.nn.Conv3d(1, 1, 3, padding=1)
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.back(functional.relu6(self.conv(x)))
        x = functional.max_pool2d(x, 2) + functional.avg_pool2d(x, 2)
        x = functional.interpolate(x, scale_factor=2.0, mode="bilinear") / (x.mean() + 2)
        volume = self.volume(x.unsqueeze(1))
        volume = functional.max_pool3d(volume, 2) + functional.avg_pool3d(volume, 2)
        flat = self.linear(volume.reshape(-1, 4)).cumsum(0)
        return functional.relu(flat @ flat.T).prod(1).amin(0) + torch.maximum(flat, flat * 2)


_WANTED = "conv conv_transpose max_pool avg_pool resize real_div linear cumsum matmul relu relu6 reduce_prod reduce_min"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., frozenset[str]]:
    torch.manual_seed(0)
    program = export(_Layers(), (x := torch.rand(1, 2, 8, 8),))
    folder = tmp_path_factory.mktemp("names")

    def types(*kept: str) -> frozenset[str]:
        path: Path = folder / f"{len(kept)}.aimodel"
        convert(program, path, plain({"x": x}, 1), Halves(fp32_op_types=kept))
        return frozenset(node.type for node in asset_nodes(path))

    return types


def test_what_debug_calls_operators_can_stay_in_float32(made: Callable[..., frozenset[str]]) -> None:
    # given the operators that the asset has, by the names that `debug` gives them
    assert set(_WANTED.split()) <= made()
    # then a recipe may name each: a pattern that matches nothing raises ConfigurationError
    made(*_WANTED.split())
