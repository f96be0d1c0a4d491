"""Compressed neural networks (format mlmodel): stored in few bits, and executed with exactly those weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builder.artifacts.stages import CompressedModel
from builder.backends.coreml.compress import compress
from builder.errors import ConfigurationError
from builder.progress import Silent
from builder.spec.rules.compatibility import find_incompatibilities
from coreml_runtime import load
from tests.unit.compression.small_net import SHAPE, SmallNet
from tests.unit.stages.small_builds import convert_module, make_spec


def _spec(precision: str = "fp32", **steps: Any) -> Any:
    return make_spec(
        input={"x": {"kind": "tensor", "shape": list(SHAPE)}},
        precision={"kind": precision},
        target={"name": "ios13"},
        format="mlmodel",
        compression=steps,
    )


def _compress(step: dict[str, Any]) -> CompressedModel:
    spec = _spec(step={"weight_threshold": 500} | step)
    assert find_incompatibilities(spec) == []
    return compress(convert_module(SmallNet(), spec), spec, Silent())


def _convolution(model: CompressedModel) -> Any:
    return next(layer.convolution for layer in model.model._spec.neuralNetwork.layers if layer.convolution.nGroups)


@pytest.mark.parametrize(
    ("step", "bits", "decibels"),
    [
        ({"kind": "linear_quantize", "dtype": "int8"}, 8, 40),
        ({"kind": "linear_quantize", "dtype": "uint4", "mode": "linear"}, 4, 15),
        ({"kind": "palettize", "nbits": 8}, 8, 40),
        ({"kind": "palettize", "nbits": 6}, 6, 25),
        ({"kind": "palettize", "nbits": 4, "mode": "uniform"}, 4, 12),
    ],
)
def test_weights_in_few_bits(step: dict[str, Any], bits: int, decibels: float, tmp_path: Path) -> None:
    # given / when
    model = _compress(step)
    # then the layer holds so many bits, and the file computes nearly what PyTorch does: 6 dB a bit, less 8 or 10
    weights = _convolution(model).weights
    assert weights.quantization.numberOfBits == bits
    assert len(weights.rawValue) == 32 * 8 * 9 * bits // 8
    model.model.save(str(tmp_path / "net.mlmodel"))
    x = np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
    (result,) = load(tmp_path / "net.mlmodel").predict({"x": x}).values()
    with torch.no_grad():
        wanted = SmallNet()(torch.from_numpy(x)).numpy()
    assert 10 * np.log10((wanted**2).sum() / ((result.reshape(wanted.shape) - wanted) ** 2).sum()) > decibels


def test_a_layer_is_chosen_by_name_and_the_others_stay() -> None:
    model = _compress({"kind": "palettize", "nbits": 4, "names": ["linear_*"]})
    assert model.summary == "step: 1 weight"


def test_small_layers_are_listed() -> None:
    model = _compress({"kind": "palettize", "nbits": 4, "weight_threshold": 2100})
    assert [layer.reason for layer in model.skipped].count("1024 elements, and weight_threshold is 2100") == 1


def test_an_unknown_layer_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="belongs to nothing"):
        _compress({"kind": "palettize", "nbits": 4, "names": ["nothing"]})


@pytest.mark.parametrize(
    ("precision", "steps", "message"),
    [
        ("fp16", {"a": {"kind": "palettize"}}, "are made from float32"),
        ("fp32", {"a": {"kind": "prune", "target_sparsity": 0.5}}, "takes linear_quantize per_channel, or palettize"),
        ("fp32", {"a": {"kind": "palettize"}, "b": {"kind": "palettize"}}, "this is the second"),
        ("fp32", {"a": {"kind": "palettize", "cluster_dim": 2}}, "without cluster_dim"),
        ("fp32", {"a": {"kind": "palettize", "op_types": ["conv"]}}, "operators of ML programs"),
        ("fp32", {"a": {"kind": "linear_quantize", "dtype": "int4"}}, "no symmetric scale for 4 bits"),
        ("fp32", {"a": {"kind": "linear_quantize", "granularity": "per_tensor"}}, "takes linear_quantize per_channel"),
    ],
)
def test_what_a_neural_network_cannot_hold_is_refused(precision: str, steps: dict[str, Any], message: str) -> None:
    problems = find_incompatibilities(_spec(precision, **steps))
    assert message in problems[0].message
    assert problems[0].hint
