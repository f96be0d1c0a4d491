"""What `debug` calls an operator of an asset is a name that `precision.fp32_op_types` takes for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import coreml_runtime
from builder.analysis.numerics.assets import asset_nodes
from builder.backends.coreai.conversion import Halves, convert
from builder.backends.coreai.modules import operator_origins
from coreml_runtime.coreai.loading import read_function
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


class _Large(torch.nn.Module):
    """Values that half does not hold, on their way through operators that only move them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        large = (x * 1e6).transpose(1, 2).clone().reshape(2, 12)
        return torch.exp(large * 1e-6)


def test_named_operators_stay_in_float32_and_what_moves_their_values_with_them(tmp_path: Path) -> None:
    # given the names that torch.export gave the products, of which the asset has one more operator between
    path, x = tmp_path / "m.aimodel", torch.rand(2, 3, 4) + 0.5
    program = export(_Large(), (x,))

    # when
    made = convert(program, path, plain({"x": x}, 1), Halves(fp32_names=("mul", "mul_1")))

    # then what is large stays finite, and the exponential computes in half
    found = coreml_runtime.load(path).predict({"x": x.numpy()})["y0"]
    np.testing.assert_allclose(found, _Large()(x).numpy(), rtol=2e-3)
    (exponential,) = (each for each in read_function(path).block.operations if each.type == "exp")
    assert exponential.outputs[0].type.dtype == "fp16"  # type: ignore[union-attr]  # a tensor's
    # and each operator says for which one it was written
    written = {name for name, _ in operator_origins(path, made.origins).values()}
    assert {"mul", "mul_1", "exp"} <= written


class _Normed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(4)
        self.last = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(x)).softmax(-1)


def test_operators_of_an_invoked_function_belong_to_what_invokes_it(tmp_path: Path) -> None:
    # given a layer norm, which the asset holds as a function
    path, x = tmp_path / "m.aimodel", torch.rand(2, 4)
    made = convert(export(_Normed(), (x,)), path, plain({"x": x}, 1), Halves(fp32_names=("*",)))

    # when
    found = operator_origins(path, made.origins)

    # then what it computes is the norm's, and nothing of it is the next layer's
    computed = [output.name for each in read_function(path).block.operations for output in each.outputs]
    of_norm = [name for name in computed if found.get(name, ("", ""))[1] == "norm"]
    assert {"reduce_mean", "rsqrt"} <= set(of_norm)
    assert found["batch_matmul"][1] == "last"
    assert found["softmax"] == ("_softmax", "")
