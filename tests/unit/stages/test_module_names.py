"""Bytes are told by layer, under the name of the PyTorch module, however its weights are stored."""

from __future__ import annotations

from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.optimize.coreml import OpPalettizerConfig, OptimizationConfig, palettize_weights
from torch import nn

from builder.backends.coreml.description import describe_artifact
from builder.backends.coreml.module_names import modules_of_operators


class _Wrapped(nn.Module):
    """A model below `model`, as the prepare stage puts it."""

    def __init__(self) -> None:
        super().__init__()
        body = nn.Sequential(nn.Conv2d(3, 64, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3))
        self.model = nn.Sequential(body, nn.Flatten(), nn.Linear(64 * 4 * 4, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


@pytest.fixture(scope="module")
def traced() -> torch.jit.ScriptModule:
    torch.manual_seed(0)
    return torch.jit.trace(_Wrapped().eval(), torch.rand(1, 3, 8, 8), check_trace=False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_weights_of_a_program_by_module(traced: torch.jit.ScriptModule, target: str, tmp_path: Path) -> None:
    # given a program with palettised weights: attributes for iOS 16, inputs for iOS 18
    x = ct.TensorType(name="x", shape=(1, 3, 8, 8), dtype=np.float32)
    model = ct.convert(traced, inputs=[x], minimum_deployment_target=getattr(ct.target, target), skip_model_load=True)
    modules = modules_of_operators(model._mil_program)
    config = OptimizationConfig(global_config=OpPalettizerConfig(nbits=4, mode="uniform", weight_threshold=2048))
    palettize_weights(model, config).save(str(tmp_path / "m.mlpackage"))

    # when the file is described
    found = describe_artifact(tmp_path / "m.mlpackage").weights

    # then each layer has its weights, at 4 bits where they were palettised, and the sum is what the file holds
    by_module: dict[str, int] = {}
    for weight in found:
        module = modules[weight.output]
        by_module[module] = by_module.get(module, 0) + weight.bytes
    table = 16 * 2
    assert by_module == {
        "0.1": 64 * 3 * 9 * 2 + 64 * 2,
        "0.3": 64 * 64 * 9 // 2 + table + 64 * 2,
        "2": 10 * 1024 // 2 + table + 10 * 2,
    }
    assert {weight.operator for weight in found} == {"conv", "linear"}


@pytest.mark.filterwarnings("ignore")
def test_weights_of_a_neural_network_by_module(traced: torch.jit.ScriptModule, tmp_path: Path) -> None:
    x = ct.TensorType(name="x", shape=(1, 3, 8, 8))
    model = ct.convert(traced, inputs=[x], convert_to="neuralnetwork")
    modules = modules_of_operators(model._mil_program)
    model.save(str(tmp_path / "m.mlmodel"))

    found = describe_artifact(tmp_path / "m.mlmodel").weights

    assert {modules[weight.output]: weight.operator for weight in found} == {
        "0.1": "convolution",
        "0.3": "convolution",
        "2": "innerProduct",
    }
