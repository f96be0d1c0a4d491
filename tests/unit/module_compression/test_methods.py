"""Each method of coremltools.optimize.torch: the artifact computes what the compressed model computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from builder.artifacts.stages import CapturedProgram, PreparedModel
from builder.backends.coreml.convert import convert
from builder.data import make_examples
from builder.errors import ConfigurationError, ConversionError, SourceError
from builder.spec import BuildSpec
from builder.spec.rules.compatibility import find_incompatibilities
from builder.util.measures import compare
from coreml_runtime import load
from tests.unit.stages.small_builds import capture_module, make_spec, operators

HERE = "tests.unit.module_compression.training"
NOISE = {"data": {"kind": "noise"}, "samples": 4}


class Net(nn.Module):
    """(N, 8, 6, 6) to (N, 32): a convolution with batch norm, a grouped one, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.conv, self.norm = nn.Conv2d(8, 32, 3), nn.BatchNorm2d(32)
        self.grouped = nn.Conv2d(32, 32, 3, groups=2)
        self.head = nn.Linear(32, 32)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            self.norm.running_var.fill_(2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.grouped(self.norm(self.conv(x)).relu()).relu().mean((2, 3)))


def _spec(target: str = "ios18", **step: Any) -> BuildSpec:
    return make_spec(
        input={"x": {"kind": "tensor", "shape": [1, 8, 6, 6]}},
        precision={"kind": "fp32"},
        target={"name": target},
        compression={"step": {"weight_threshold": 500} | step},
    )


def _captured(**step: Any) -> tuple[PreparedModel, CapturedProgram, Any, BuildSpec]:
    return capture_module(Net(), _spec(**step))


@pytest.mark.parametrize(
    ("step", "operator", "changed", "least_db"),
    [
        ({"kind": "post_training_quantize"}, "constexpr_blockwise_shift_scale", 3, 35),
        ({"kind": "post_training_quantize", "mode": "affine"}, "constexpr_blockwise_shift_scale", 3, 35),
        ({"kind": "post_training_palettize", "nbits": 4}, "constexpr_lut_to_dense", 3, 15),
        ({"kind": "sensitive_kmeans", "nbits": 4, **NOISE}, "constexpr_lut_to_dense", 3, 12),
        ({"kind": "sensitive_kmeans", "loss": f"{HERE}:loss", **NOISE}, "constexpr_lut_to_dense", 3, 12),
        ({"kind": "gptq", "nbits": 4, **NOISE}, "constexpr_blockwise_shift_scale", 2, 12),
        ({"kind": "magnitude_prune"}, "constexpr_sparse_to_dense", 3, 2),
        ({"kind": "magnitude_prune", "training": f"{HERE}:tune"}, "constexpr_sparse_to_dense", 3, 2),
        ({"kind": "quantization_aware_training", "training": f"{HERE}:tune"}, "quantize", 3, 5),
    ],
)
def test_the_artifact_computes_what_the_compressed_model_computes(
    step: dict[str, Any], operator: str, changed: int, least_db: float, tmp_path: Path
) -> None:
    # given a model that is compressed before it is captured
    prepared, captured, examples, spec = _captured(**step)
    (effect,) = prepared.compression
    assert (effect.kind, effect.stage, len(effect.changed)) == (step["kind"], "prepare", changed)
    # when it is converted
    converted = convert(prepared, captured, examples, spec)
    # then the program stores what torch compressed, and computes the same
    assert operator in {op.op_type for op in operators(converted)}
    converted.model.save(str(tmp_path / "net.mlpackage"))
    sample = examples.samples[1]
    (result,) = load(tmp_path / "net.mlpackage").predict(dict(sample.given)).values()
    with torch.no_grad():
        (compressed,) = prepared.module(*sample.tensors.values())
        (original,) = prepared.reference(*sample.tensors.values())
        (uncompressed,) = prepared.uncompressed(*sample.tensors.values())
    assert compare(compressed, result).snr_db > 80
    # and the model before compression is at hand, from which it differs by what the step cost
    assert torch.equal(original, uncompressed)
    assert least_db < compare(original, result).snr_db < 70


def test_gptq_makes_up_for_rounding() -> None:
    rounded = _captured(kind="post_training_quantize", dtype="int4")[0].compression[0]
    by_gptq = _captured(kind="gptq", nbits=4, data={"kind": "noise"}, samples=32, modules=["conv", "head"])[0]
    # given layers of which gptq leaves the grouped one in float32, rounding is held against the same layers
    same = _captured(kind="post_training_quantize", dtype="int4", modules=["conv", "head"])[0].compression[0]
    assert rounded.snr_db is not None
    assert same.snr_db is not None
    assert by_gptq.compression[0].snr_db > same.snr_db  # type: ignore[operator]


def test_compression_is_the_same_each_time() -> None:
    for step in ({"kind": "magnitude_prune", "training": f"{HERE}:tune"}, {"kind": "sensitive_kmeans", **NOISE}):
        first, second = (_captured(**step)[0].module.state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_layers_that_are_left_alone_are_listed_with_the_reason() -> None:
    prepared = _captured(kind="gptq", **NOISE, weight_threshold=1100)[0]
    assert {(layer.name, layer.reason) for layer in prepared.skipped} == {
        ("grouped", "gptq takes convolutions of one group, and this has 2"),
        ("head", "1024 elements, and weight_threshold is 1100"),
    }


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # a temporary folder of coremltools
@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (
            {"kind": "gptq", **NOISE, "modules": ["hed"]},
            ConfigurationError,
            "compression step: no layer of the model belongs to hed",
        ),
        (
            {"kind": "post_training_quantize", "weight_threshold": 10**6},
            ConversionError,
            "compression step changed nothing: 2304 elements, and weight_threshold is 1000000",
        ),
        (
            {"kind": "quantization_aware_training", "training": f"{HERE}:fail"},
            ConversionError,
            "raised OSError: the data set is not here",
        ),
        ({"kind": "magnitude_prune", "training": f"{HERE}:tun"}, SourceError, "has no tun"),
        (
            {"kind": "sensitive_kmeans", "loss": f"{HERE}:no_loss", **NOISE},
            ConversionError,
            "no_loss returned str, expected one number",
        ),
    ],
)
def test_what_goes_wrong_is_told(step: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _captured(**step)


@pytest.mark.parametrize(
    ("step", "least"),
    [
        ({"kind": "post_training_quantize"}, "ios16"),
        ({"kind": "post_training_quantize", "dtype": "int4"}, "ios18"),
        ({"kind": "gptq", **NOISE}, "ios18"),
        ({"kind": "gptq", "nbits": 8, **NOISE}, "ios16"),
        ({"kind": "post_training_palettize"}, "ios16"),
        ({"kind": "sensitive_kmeans", "granularity": "per_grouped_channel", **NOISE}, "ios18"),
        ({"kind": "magnitude_prune"}, "ios16"),
        ({"kind": "quantization_aware_training", "training": f"{HERE}:tune"}, "ios17"),
    ],
)
def test_each_method_names_the_least_target(step: dict[str, Any], least: str) -> None:
    (problem,) = find_incompatibilities(_spec(target="ios15", **step))
    assert f"needs {least} or later, and the target is ios15" in problem.message
    assert find_incompatibilities(_spec(target=least, **step)) == []


def test_a_sample_reaches_the_layers_as_the_model_takes_it() -> None:
    spec = make_spec(
        input={"image": {"kind": "image", "shape": [1, 3, 16, 16], "mean": 0.5, "std": 0.5}},
        compression={"gptq": {"kind": "gptq", "data": {"kind": "photographs"}, "weight_threshold": 100}},
        target={"name": "ios18"},
    )
    seen: list[torch.Tensor] = []

    class Watch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return self.conv(x)

    capture_module(Watch(), spec)
    levels = make_examples(spec).samples[0].tensors["image"]
    assert any(torch.allclose(x, (levels / 255 - 0.5) / 0.5, atol=1e-6) for x in seen)
    assert max(float(x.abs().max()) for x in seen) <= 1.0 + 1e-6
