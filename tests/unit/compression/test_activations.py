"""Activations as integers: every sample counts, upstream agrees where it is right, and what is left alone is named."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch
from torch import nn

import coreml_runtime as runtime
from builder.artifacts.stages import CompressedModel, ConvertedModel, Sample
from builder.backends.coreml import compress as stage
from builder.backends.coreml.compression.activations import share_ranges
from builder.backends.ranges import measure_ranges
from builder.errors import ConfigurationError, ConversionError
from builder.progress import Silent
from builder.util.measures import compare
from tests.unit.stages.small_builds import convert_module, make_spec, operators

SHAPE = (1, 4, 8, 8)
ACTIVATIONS = {"kind": "quantize_activations", "data": {"kind": "noise"}}


class Branches(nn.Module):
    """(1, 4, 8, 8) to (1, 8, 4, 4): two convolutions, joined, pooled, and added to a third."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(11)
        self.left, self.right = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.skip = nn.Conv2d(4, 8, 2, stride=2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([self.left(x).relu(), self.right(x)], dim=1)
        return nn.functional.max_pool2d(joined, 2) + self.skip(x)


def _spec(precision: str = "fp32", **activations: Any) -> Any:
    return make_spec(
        input={"x": {"kind": "tensor", "shape": list(SHAPE)}},
        precision={"kind": precision},
        target={"name": "ios17"},
        compression={"activations": ACTIVATIONS | activations},
    )


@cache
def _converted(precision: str = "fp32") -> ConvertedModel:
    return convert_module(Branches(), _spec(precision))


def _sample(scale: float, seed: int) -> Sample:
    x = np.random.default_rng(seed).uniform(-scale, scale, SHAPE).astype(np.float32)
    return Sample(given={"x": x}, tensors={"x": torch.from_numpy(x)})


def _quantized(
    samples: Sequence[Sample], monkeypatch: pytest.MonkeyPatch, precision: str = "fp32", **activations: Any
) -> CompressedModel:
    monkeypatch.setattr(stage, "draw_samples", lambda *_, **__: tuple(samples))
    return stage.compress(_converted(precision), _spec(precision, **activations), Silent())


def _scales(model: Any) -> list[float]:
    return [float(op.scale.val) for op in model.functions["main"].operations if op.op_type == "quantize"]


def test_a_loud_sample_counts_wherever_it_stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loud, quiet = _sample(8.0, 1), [_sample(0.5, seed) for seed in (2, 3)]
    with torch.no_grad():
        wanted = Branches()(loud.tensors["x"]).numpy()
    for place, samples in enumerate([[loud, *quiet], [quiet[0], loud, quiet[1]], [*quiet, loud]]):
        compressed = _quantized(samples, monkeypatch)
        path = tmp_path / f"{place}.mlpackage"
        compressed.model.save(str(path))
        (result,) = runtime.load(path).predict(dict(loud.given)).values()
        assert np.abs(result - wanted).max() < 0.05 * np.abs(wanted).max()  # 8 bits; clipped ranges miss by 0.9


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # temporary folders of coremltools
def test_scales_are_those_that_coremltools_derives_where_the_last_sample_is_the_loudest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    samples = [_sample(0.5, 1), _sample(8.0, 2)]
    ours = _scales(_quantized(samples, monkeypatch, "fp16").model._mil_program)  # its own fails in float32
    path = tmp_path / "net.mlpackage"
    _converted("fp16").model.save(str(path))
    runtime.install()
    try:
        config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(mode="linear_symmetric"))
        theirs = cto.linear_quantize_activations(ct.models.MLModel(str(path)), config, [dict(s.given) for s in samples])
    finally:
        runtime.uninstall()
    assert ours
    assert ours == _scales(theirs._mil_program)


def test_ranges_cover_all_samples_and_are_shared_around_a_concat() -> None:
    samples = [_sample(2.0, 1), _sample(1.0, 2)]
    arrays = {id(s): s.tensors["x"].numpy() for s in samples}
    values = {key: {"x": x, "a": x * 3, "flags": np.ones(2, bool)} for key, x in arrays.items()}
    ranges = measure_ranges(lambda sample: values[id(sample)], samples, lambda _: None)
    everything = np.stack([s.tensors["x"].numpy() for s in samples])
    assert ranges.keys() == {"a", "x"}
    assert ranges["x"] == {"rmin": everything.min(), "rmax": everything.max()}
    assert ranges["a"]["rmax"] == pytest.approx(3 * everything.max())
    program = _converted().model._mil_program
    (concat,) = [op for op in operators(_converted()) if op.op_type == "concat"]
    names = [variable.name for variable in (*concat.inputs["values"], *concat.outputs)]
    ranges = {name: {"rmin": np.float32(-index), "rmax": np.float32(index)} for index, name in enumerate(names)}
    share_ranges(ranges, program)
    assert [ranges[name] for name in names] == [{"rmin": -2, "rmax": 2}] * 3


@pytest.mark.parametrize(
    ("chosen", "changed"),
    [
        ({"op_types": ["conv"]}, 3),
        ({"op_types": ["conv"], "except_names": ["*skip*"]}, 2),
        ({}, 5),
    ],
)
def test_operators_are_chosen_like_weights(
    monkeypatch: pytest.MonkeyPatch, chosen: dict[str, Any], changed: int
) -> None:
    compressed = _quantized([_sample(1.0, 1)], monkeypatch, **chosen)
    assert compressed.summary == f"activations: {changed} operators"


def test_what_cannot_be_quantized_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="no operator of the program belongs to lstm"):
        _quantized([_sample(1.0, 1)], monkeypatch, op_types=["lstm"])
    broken = Sample(given={"x": np.full(SHAPE, np.nan, np.float32)}, tensors={})
    with pytest.raises(ConversionError, match="is nan to nan for a sample of the calibration data, and has no scale"):
        _quantized([_sample(1.0, 1), broken], monkeypatch)


class Attention(nn.Module):
    """(1, 6, 8) to the same: what comes later is hidden, by infinity, or by a number that is added."""

    def __init__(self, hidden: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.register_buffer("hidden", torch.full((6, 6), hidden).triu(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.layer(x).chunk(3, -1)
        scores = q @ k.transpose(1, 2) + torch.cat([x, -x], 1)[:, :6, :6]  # a sum that has a scale
        return self.out((scores + self.get_buffer("hidden") * x[:, :, :1].abs().sign()).softmax(-1) @ v)


@pytest.mark.parametrize("hidden", [-torch.inf, -1e9])
def test_masks_are_left_alone_and_all_else_is_quantized(
    hidden: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # given calibration data for which a sum gives infinity, or a mask of -30000
    module, x = Attention(hidden), np.random.default_rng(0).standard_normal((1, 6, 8)).astype(np.float32)
    spec = make_spec(
        input={"x": {"kind": "tensor", "shape": [1, 6, 8]}},
        target={"name": "ios17"},
        compression={"activations": ACTIVATIONS},
    )
    monkeypatch.setattr(stage, "draw_samples", lambda *_, **__: (Sample(given={"x": x}, tensors={}),))
    compressed = stage.compress(convert_module(module, spec), spec, Silent())
    # then
    assert [layer.reason.rsplit(", ")[-1] for layer in compressed.skipped] in (
        ["of which 8 bits hold nothing but the ends"],
        ["or were never computed for the calibration data"],
    )
    assert len(compressed.effects[0].changed) == 3
    compressed.model.save(str(tmp_path / "m.mlpackage"))
    (found,) = runtime.load(tmp_path / "m.mlpackage").predict({"x": x}).values()
    with torch.no_grad():
        assert compare(module(torch.from_numpy(x)), found).snr_db > 20  # 8 bits; with the mask in them nothing is left
