"""Conversion: precision, names of weights, states, types of inputs and outputs, files that say what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builder.backends.coreai import engine
from builder.backends.coreai.conversion import Declared, Halves, convert
from builder.backends.coreai.describe import describe
from builder.errors import ConfigurationError, ConversionError, SourceError
from tests.unit.backends.coreai.conftest import export, plain, snr


def test_a_network_computes_what_torch_computes(small: Any, converted: Any) -> None:
    _, x, wanted = small
    asset, said = converted(False)
    (found,), _ = engine.predict(asset, [{"image": x.numpy()}])
    assert snr(found["logits"], wanted.numpy()) > 110  # float32's rounding
    assert said.folded == 1


def test_half_precision_keeps_the_types_of_inputs_and_outputs(small: Any, converted: Any) -> None:
    _, x, wanted = small
    asset, _ = converted(True)
    (found,), _ = engine.predict(asset, [{"image": x.numpy()}])
    assert found["logits"].dtype == np.float32
    assert 45 < snr(found["logits"], wanted.numpy()) < 80  # float16's rounding, and no less


def test_a_description_names_weights_by_their_parameters(converted: Any) -> None:
    described = describe(converted(True)[0])
    assert described.functions["main"]["inputs"] == (
        {"name": "image", "kind": "tensor", "shape": [1, 4, 8, 8], "dtype": "float32"},
    )
    weights = {weight.name: (weight.bytes, weight.operator, weight.module) for weight in described.weights}
    assert weights["linear.weight"] == (32 * 512 * 2, "broadcasting_batch_matmul", "linear")
    assert weights["conv.weight"] == (8 * 4 * 9 * 2, "conv2d", "conv")
    assert described.op_counts["conv2d"] == 1


def test_a_pattern_of_a_mixed_precision_that_matches_nothing_is_named(small: Any, tmp_path: Path) -> None:
    declared = Declared(inputs={"image": "float32"}, outputs={"logits": "float32"})
    halves = Halves(fp32_modules=("layer_nrm",))
    with pytest.raises(ConfigurationError, match="layer_nrm matches no module") as raised:
        convert(export(small[0], (small[1],)), tmp_path / "m.aimodel", declared, halves)
    assert "layer_norm" in (raised.value.hint or "")


class Cached(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(1, 8, 4))
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, place: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys[:, place] = self.linear(x).unsqueeze(1)
        return self.keys.sum(1), x * place


def test_states_go_on_from_call_to_call_in_their_declared_type(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Cached().eval(), torch.rand(1, 4)
    program = export(model, (x, torch.tensor([0], dtype=torch.int32)))
    declared = Declared(
        inputs={"x": "float16", "place": "int32"},
        outputs={"sums": "float32", "product": None},
        states={"cache": ("model.keys", "float16")},
    )
    convert(program, tmp_path / "m.aimodel", declared, None)
    samples = [{"x": (x * n).half().numpy(), "place": np.array([n], np.int32)} for n in range(3)]
    state = {"cache": np.zeros((1, 8, 4), np.float16)}
    found, after = engine.predict(tmp_path / "m.aimodel", samples, state=state)
    with torch.no_grad():
        wanted = [model((x * n).half().float(), torch.tensor([n]))[0] for n in range(3)]
    np.testing.assert_allclose(found[2]["sums"], wanted[2].numpy(), rtol=2e-3)  # the cache is float16
    assert after["cache"].dtype == np.float16
    assert np.count_nonzero(after["cache"].any(-1)) == 3
    assert describe(tmp_path / "m.aimodel").functions["main"]["states"] == (
        {"name": "cache", "kind": "state", "shape": [1, 8, 4], "dtype": "float16"},
    )


class Shared(torch.nn.Module):
    """One convolution before two batch norms, a transposed one in groups, and a batch norm on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(4, 4, 1, bias=False)
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm2d(4, affine=i > 0) for i in range(4))
        self.up = torch.nn.ConvTranspose2d(4, 4, 2, stride=2, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norms[0](self.conv(x)) + self.norms[1](self.conv(x * 2))
        return self.norms[3](torch.relu(self.norms[2](self.up(x))))


def test_batch_norms_are_folded_whatever_is_before_them(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, x = Shared().eval(), torch.rand(1, 4, 4, 4)
    for norm in model.norms:
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.2, 2)
    said = convert(export(model, (x,)), tmp_path / "m.aimodel", plain({"x": x}, 1), None)
    (found,), _ = engine.predict(tmp_path / "m.aimodel", [{"x": x.numpy()}])
    with torch.no_grad():
        assert snr(found["y0"], model(x).numpy()) > 110
    assert said.folded == 4


class Pixels(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.normalize = torch.nn.Module()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image - 127.5) / 255


def test_pixels_are_bytes_where_declared(tmp_path: Path) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(1, 3, 4, 4) * 5
    program = export(Pixels(), (torch.zeros(1, 3, 4, 4),))
    declared = Declared(inputs={"image": "uint8"}, outputs={"y": "float32"})
    convert(program, tmp_path / "m.aimodel", declared, None)
    (found,), _ = engine.predict(tmp_path / "m.aimodel", [{"image": pixels}])
    np.testing.assert_allclose(found["y"], (pixels.astype(np.float32) - 127.5) / 255, rtol=1e-6)


def test_dimensions_that_the_app_chooses(tmp_path: Path) -> None:
    x = torch.rand(1, 6, 4)
    size = torch.export.Dim("length", min=2, max=9)
    program = export(torch.nn.Linear(4, 3), (x,), dynamic_shapes=(({1: size},),))
    convert(program, tmp_path / "m.aimodel", plain({"x": x}, 1), None)
    found, _ = engine.predict(tmp_path / "m.aimodel", [{"x": x[:, :n].numpy()} for n in (2, 6, 9)[:2]])
    assert [each["y0"].shape for each in found] == [(1, 2, 3), (1, 6, 3)]
    (given,) = describe(tmp_path / "m.aimodel").functions["main"]["inputs"]
    assert given["shape"] == [1, -1, 4]


def test_a_damaged_asset_is_named(converted: Any, tmp_path: Path) -> None:
    import shutil

    damaged = tmp_path / "d.aimodel"
    shutil.copytree(converted(False)[0], damaged)
    program = bytearray((damaged / "main.mlirb").read_bytes())
    program[2000] ^= 255
    (damaged / "main.mlirb").write_bytes(program)
    with pytest.raises(SourceError, match="is damaged"):
        describe(damaged)
    (damaged / "metadata.json").unlink()
    with pytest.raises(SourceError, match=r"no metadata\.json"):
        describe(damaged)


class Waves(torch.nn.Module):
    """Tables that torch computes in double precision, and a module whose name torch writes in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.LayerNorm = torch.nn.LayerNorm(600)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.view_as_real(torch.fft.rfft(self.LayerNorm(x)))


def test_tables_are_computed_before_precision_is_chosen(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Waves().eval(), torch.rand(2, 600)
    with torch.no_grad():
        wanted = model(x).numpy()
    declared = Declared(inputs={"x": "float32"}, outputs={"y": "float32"})
    convert(export(model, (x,)), tmp_path / "m.aimodel", declared, Halves())
    (found,), _ = engine.predict(tmp_path / "m.aimodel", [{"x": x.numpy()}])
    assert snr(found["y"], wanted) > 45  # without the tables: infinite angles, no number at all


class Whole(torch.nn.Module):
    """A buffer and a number of 64 bits, and what torch writes for no limit."""

    def __init__(self, value: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.tensor([value, 5]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.masked_fill(x > 3, torch.iinfo(torch.int64).max) + self.table.clamp(max=7)


def test_integers_of_64_bits_are_narrowed_or_refused_by_name(tmp_path: Path) -> None:
    x = torch.tensor([1, 9])
    declared = Declared(inputs={"x": "int32"}, outputs={"y": "int32"})
    with pytest.raises(ConversionError, match=r"table holds 1099511627779, and Core AI computes with integers of 32"):
        convert(export(Whole((1 << 40) + 3), (x,)), tmp_path / "a.aimodel", declared, None)
    convert(export(Whole(-(1 << 63)), (x,)), tmp_path / "m.aimodel", declared, None)
    (found,), _ = engine.predict(tmp_path / "m.aimodel", [{"x": np.array([1, 0], np.int32)}])
    assert found["y"].tolist() == [1 - (1 << 31), 5]  # the least that there is


def test_pictures_that_are_given_back_are_rounded_levels(tmp_path: Path) -> None:
    x = torch.tensor([-3.0, 0.4, 0.6, 1.5, 254.7, 300.0])
    declared = Declared(inputs={"x": "float32"}, outputs={"y": "uint8"})
    convert(export(torch.nn.Identity(), (x,)), tmp_path / "m.aimodel", declared, None)
    (found,), _ = engine.predict(tmp_path / "m.aimodel", [{"x": x.numpy()}])
    assert found["y"].tolist() == [0, 0, 1, 2, 255, 255]


class Times(torch.nn.Module):
    def forward(self, time: torch.Tensor) -> torch.Tensor:
        angles = time[:, None].float() * torch.exp(torch.arange(32) * (-9.2 / 32))
        return torch.cat([angles.cos(), angles.sin()], -1)


def test_angles_of_exact_numbers_stay_in_float32(tmp_path: Path) -> None:
    # given a time of hundreds of radians, whose half is off by a quarter
    time = torch.tensor([989], dtype=torch.int32)
    declared = plain({"time": time}, 1)
    convert(export(Times(), (time,)), tmp_path / "m.aimodel", declared, Halves())
    (found,), _ = engine.predict(tmp_path / "m.aimodel", [{"time": time.numpy()}])
    assert snr(found["y0"], Times()(time).numpy()) > 60
