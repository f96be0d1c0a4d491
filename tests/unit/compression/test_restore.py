"""Compressed weights of a finished neural network stay compressed in the package that it becomes."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builder.artifacts.stages import ConvertedModel
from builder.backends.coreml.compress import compress
from builder.backends.coreml.convert import convert
from builder.data import make_examples
from builder.model.sources import load_source
from builder.progress import Silent
from builder.spec import BuildSpec
from builder.stages.capture import capture
from builder.stages.prepare import prepare
from coreml_runtime import load
from tests.unit.compression.small_net import SHAPE, SmallNet
from tests.unit.stages.small_builds import convert_module, make_spec, operators

STEPS: dict[str, dict[str, Any]] = {
    "int8": {"kind": "linear_quantize", "dtype": "int8"},
    "shifted": {"kind": "linear_quantize", "dtype": "uint8", "mode": "linear"},
    "uint4": {"kind": "linear_quantize", "dtype": "uint4", "mode": "linear"},
    "palette": {"kind": "palettize", "nbits": 4},
    "palette_3": {"kind": "palettize", "nbits": 3},
}
INPUT = {"x": {"kind": "tensor", "shape": list(SHAPE)}}


@cache
def network(folder: Path, step: str) -> Path:
    """SmallNet as a neural network with compressed weights, and a channel of zeros."""
    spec = make_spec(
        input=INPUT, precision={"kind": "fp32"}, target={"name": "ios13"}, format="mlmodel",
        compression={"step": {"weight_threshold": 500} | STEPS[step]},
    )  # fmt: skip
    path = folder / f"{step}.mlmodel"
    net = SmallNet()
    torch.nn.init.zeros_(net.conv.weight.data[3])
    compress(convert_module(net, spec), spec, Silent()).model.save(str(path))
    return path


def packaged(file: Path, target: str, precision: str) -> ConvertedModel:
    spec = BuildSpec.model_validate(
        {
            "source": {"kind": "coreml", "file": str(file)},
            "input": INPUT,
            "tracking": {"kind": "none"},
            "precision": {"kind": precision},
            "target": {"name": target},
        }
    )
    examples = make_examples(spec)
    prepared = prepare(load_source(spec, examples, Silent()), examples, spec)
    return convert(prepared, capture(prepared, examples, "export", {}), examples, spec)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.mark.parametrize(
    ("step", "target", "precision", "operator", "decibels"),
    [
        ("int8", "ios16", "fp32", "constexpr_affine_dequantize", 110),
        ("int8", "ios18", "fp16", "constexpr_blockwise_shift_scale", 50),
        ("shifted", "ios18", "fp32", "constexpr_blockwise_shift_scale", 110),
        ("shifted", "ios18", "fp16", "constexpr_blockwise_shift_scale", 45),
        ("uint4", "ios18", "fp32", "constexpr_blockwise_shift_scale", 110),
        ("palette", "ios16", "fp32", "constexpr_lut_to_dense", 110),
        ("palette_3", "ios16", "fp32", "constexpr_lut_to_dense", 110),
        ("palette", "ios18", "fp16", "constexpr_lut_to_dense", 50),
    ],
)
def test_weights_stay_compressed(
    step: str, target: str, precision: str, operator: str, decibels: float, folder: Path, tmp_path: Path
) -> None:
    # given
    file = network(folder, step)
    # when
    converted = packaged(file, target, precision)
    converted.model.save(str(tmp_path / "m.mlpackage"))
    # then every one is stored as it was, in about as many bytes, and computes what the file computes
    assert "plain" not in converted.summary
    assert Counter(op.op_type for op in operators(converted))[operator] == 3
    weights = (tmp_path / "m.mlpackage/Data/com.apple.CoreML/weights/weight.bin").stat().st_size
    assert weights < 1.2 * file.stat().st_size
    given = {"x": np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)}
    (wanted,), (found,) = load(file).predict(given).values(), load(tmp_path / "m.mlpackage").predict(given).values()
    assert 10 * np.log10(np.square(wanted).sum() / max(np.square(wanted - found).sum(), 1e-30)) > decibels


def test_what_the_target_cannot_hold_is_plain_and_listed(folder: Path) -> None:
    converted = packaged(network(folder, "shifted"), "ios16", "fp32")
    assert "stored plain: weight_0" in converted.summary
    assert "plain" in packaged(network(folder, "int8"), "ios15", "fp32").summary
