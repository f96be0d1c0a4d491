"""Activations as 8-bit integers: Apple's interpreter and torch agree on what the pairs around layers compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builder.backends.coreai import child, engine
from builder.backends.coreai.compression.compress import compress
from builder.backends.coreai.conversion import convert
from builder.backends.coreai.describe import describe
from builder.backends.coreai.sealing import Metadata, seal
from builder.errors import ConversionError
from builder.spec.compression import LinearQuantize, QuantizeActivations
from builder.spec.data import NoiseData
from tests.unit.backends.coreai.conftest import export, plain, snr

SAMPLES = [torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1 for seed in range(3)]


class Net(torch.nn.Module):
    """A padded convolution with ReLU6, a sum, both pools, a product with a bias; `quantized` sees each value."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = torch.nn.Conv2d(4, 8, 3, padding=1)
        self.second = torch.nn.Conv2d(8, 8, 1)
        self.last = torch.nn.Linear(8 * 4, 40)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(x, lambda _, value: value)

    def run(self, x: torch.Tensor, quantized: Any) -> torch.Tensor:
        one = quantized("one", torch.nn.functional.relu6(self.first(quantized("x", x))))
        two = quantized("two", self.second(one))
        three = quantized("three", one + two)
        four = quantized("four", torch.nn.functional.max_pool2d(three, 2))
        five = quantized("five", torch.nn.functional.avg_pool2d(four, 2))
        return self.last(five.flatten(1))


def step(**more: Any) -> QuantizeActivations:
    return QuantizeActivations(kind="quantize_activations", data=NoiseData(kind="noise"), **more)


@pytest.fixture(scope="module")
def asset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("activations") / "plain.aimodel"
    given = {"x": SAMPLES[0]}
    convert(export(Net().eval(), (SAMPLES[0],)), path, plain(given, 1), None)
    return path


def by_torch(x: torch.Tensor, *, symmetric: bool, without: tuple[str, ...] = ()) -> np.ndarray:
    """What the pairs compute, on ranges that torch measures."""
    net, ranges = Net().eval(), dict[str, tuple[float, float]]()

    def watch(name: str, value: torch.Tensor) -> torch.Tensor:
        low, high = ranges.get(name, (np.inf, -np.inf))
        ranges[name] = min(low, float(value.min())), max(high, float(value.max()))
        return value

    def quantize(name: str, value: torch.Tensor) -> torch.Tensor:
        low, high = ranges[name]
        if name in without:
            return value
        if symmetric:
            scale, zero = max(-low, high) / 127, 0
        else:
            low, high = min(low, 0.0), max(high, 0.0)
            scale = (high - low) / 255
            zero = round(-128 - low / scale)
        return torch.fake_quantize_per_tensor_affine(value, scale, zero, -128, 127)

    with torch.no_grad():
        for sample in SAMPLES:
            net.run(sample, watch)
        return net.run(x, quantize).numpy()


@pytest.mark.parametrize("mode", ["linear_symmetric", "linear"])
def test_the_interpreter_computes_what_torch_does(mode: Any, asset: Path, tmp_path: Path) -> None:
    samples = {"s": [{"x": sample.numpy()} for sample in SAMPLES]}
    (result,) = compress(asset, tmp_path, {"s": step(mode=mode)}, samples)
    x = torch.rand(1, 4, 8, 8) * 2 - 1
    (found,), _ = engine.predict(result.asset, [{"x": x.numpy()}])
    assert snr(found["y0"], by_torch(x, symmetric=mode == "linear_symmetric")) > 100
    assert len(result.changed) == 6
    assert {"first", "second", "last"} < set(result.changed)
    counts = describe(result.asset).op_counts
    assert counts["quantize"] == counts["dequantize"] == 7  # of x, behind layers but the last, and in front of that


def test_layers_are_chosen_by_type_and_by_module(asset: Path, tmp_path: Path) -> None:
    samples = {"s": [{"x": sample.numpy()} for sample in SAMPLES]}
    chosen = {"s": step(op_types=["conv"], except_names=["second"])}
    (result,) = compress(asset, tmp_path, chosen, samples)
    assert result.changed == ("first",)
    assert describe(result.asset).op_counts["quantize"] == 2


def test_with_weights_it_is_w8a8_in_any_order(asset: Path, tmp_path: Path) -> None:
    samples = {"a": [{"x": sample.numpy()} for sample in SAMPLES]}
    weights = LinearQuantize(kind="linear_quantize", weight_threshold=30)
    found = []
    for number, steps in enumerate(({"w": weights, "a": step()}, {"a": step(), "w": weights})):
        folder = tmp_path / str(number)
        folder.mkdir()
        last = compress(asset, folder, steps, samples)[-1].asset
        assert describe(last).op_counts["blockwise_shift_scale"] == 3
        found.append(engine.predict(last, [{"x": SAMPLES[0].numpy()}])[0][0]["y0"])
    assert snr(found[0], by_torch(SAMPLES[0], symmetric=True)) > 25
    assert snr(found[0], found[1]) > 25  # ranges of plain weights are a little others


def test_a_second_step_finds_integers_already(asset: Path, tmp_path: Path) -> None:
    samples = {name: [{"x": SAMPLES[0].numpy()}] for name in ("a", "b")}
    with pytest.raises(ConversionError, match="compression b changed nothing: its values are 8-bit integers already"):
        compress(asset, tmp_path, {"a": step(), "b": step(op_types=["conv"])}, samples)


def test_data_that_is_not_a_number_is_refused(asset: Path, tmp_path: Path) -> None:
    bad = SAMPLES[0].numpy().copy()
    bad[0, 0, 0, 0] = np.nan
    with pytest.raises(ConversionError, match="has no scale"):
        compress(asset, tmp_path, {"s": step()}, {"s": [{"x": bad}]})


def test_another_process_makes_the_same_bytes(asset: Path, tmp_path: Path) -> None:
    found = []
    for number in range(2):
        (folder := tmp_path / str(number)).mkdir()
        weights = LinearQuantize(kind="linear_quantize", weight_threshold=30)
        samples = {"a": [{"x": sample.numpy()} for sample in SAMPLES]}
        made = compress(asset, folder, {"w": weights, "a": step()}, samples)[-1].asset
        seal({"": made}, folder / "sealed.aimodel", Metadata())
        found.append({file.name: file.read_bytes() for file in (folder / "sealed.aimodel").iterdir()})
        child.end()
    assert found[0] == found[1]
