"""Samples: right shapes, layouts and ranges for every input, the same for one seed, different within one draw."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

from builder.data import draw_samples, make_examples, shipped
from builder.data.digits import load_digits
from builder.errors import SourceError
from builder.spec import BuildSpec
from builder.spec.data import Data, DigitsData, NoiseData, PhotographsData
from builder.spec.inputs import ImageInput, Input, TensorInput

PHOTOGRAPHS, NOISE = PhotographsData(kind="photographs"), NoiseData(kind="noise")
DIGITS = DigitsData(kind="digits")


def _input(**values: Any) -> ImageInput | TensorInput:
    adapter: TypeAdapter[ImageInput | TensorInput] = TypeAdapter(Input)
    return adapter.validate_python(values)


def _image(color_layout: str = "RGB", height: Any = 48, width: Any = 64) -> ImageInput | TensorInput:
    channels = 1 if color_layout.startswith("G") else 3
    return _input(kind="image", shape=[1, channels, height, width], color_layout=color_layout, scale=1.0)


@pytest.mark.parametrize("data", [PHOTOGRAPHS, NOISE, DIGITS])
@pytest.mark.parametrize(
    ("layout", "mode", "channels"), [("RGB", "RGB", 3), ("BGR", "RGB", 3), ("G", "L", 1), ("G16", "F", 1)]
)
def test_pictures_are_given_as_core_ml_takes_them(data: Data, layout: str, mode: str, channels: int) -> None:
    samples = draw_samples(data, {"image": _image(layout)}, 3, 0)
    for sample in samples:
        picture, tensor = sample.given["image"], sample.tensors["image"]
        assert isinstance(picture, Image.Image)
        assert (picture.mode, picture.size) == (mode, (64, 48))
        assert tensor.dtype == torch.float32
        assert tensor.shape == (1, channels, 48, 64)
        assert 0 <= float(tensor.min()) < float(tensor.max()) <= 255
        assert float(tensor.std()) > 10  # a picture, not a flat colour


def test_bgr_has_the_channels_of_rgb_in_reverse() -> None:
    rgb = draw_samples(PHOTOGRAPHS, {"image": _image("RGB")}, 1, 0)[0]
    bgr = draw_samples(PHOTOGRAPHS, {"image": _image("BGR")}, 1, 0)[0]
    assert rgb.given["image"] == bgr.given["image"]
    assert torch.equal(rgb.tensors["image"].flip(1), bgr.tensors["image"])


@pytest.mark.parametrize("data", [PHOTOGRAPHS, NOISE])
def test_one_seed_gives_the_same_and_another_gives_others(data: Data) -> None:
    inputs = {"image": _image(), "x": _input(kind="tensor", shape=[1, 5])}
    first, again, other = (draw_samples(data, inputs, 4, seed) for seed in (3, 3, 4))
    for name in inputs:
        assert all(torch.equal(a.tensors[name], b.tensors[name]) for a, b in zip(first, again, strict=True))
        assert not any(torch.equal(a.tensors[name], b.tensors[name]) for a, b in zip(first, other, strict=True))
        pairs = [(a, b) for i, a in enumerate(first) for b in first[i + 1 :]]
        assert not any(torch.equal(a.tensors[name], b.tensors[name]) for a, b in pairs)


@pytest.mark.parametrize("data", [PHOTOGRAPHS, NOISE, DIGITS])
def test_more_samples_begin_with_the_same(data: Data) -> None:
    few, many = (draw_samples(data, {"image": _image()}, count, 0) for count in (2, 5))
    assert all(torch.equal(a.tensors["image"], b.tensors["image"]) for a, b in zip(few, many[:2], strict=True))


def test_inputs_beside_a_picture_are_noise_and_do_not_depend_on_each_other() -> None:
    both = {"left": _image(), "right": _image(), "x": _input(kind="tensor", shape=[2, 3])}
    sample = draw_samples(PHOTOGRAPHS, both, 1, 0)[0]
    alone = draw_samples(PHOTOGRAPHS, {"x": both["x"]}, 1, 0)[0]
    assert list(sample.tensors) == ["left", "right", "x"]
    assert not torch.equal(sample.tensors["left"], sample.tensors["right"])
    assert torch.equal(sample.tensors["x"], alone.tensors["x"])


def test_flexible_dimensions_are_drawn_at_their_captured_size() -> None:
    image = _image(height={"min": 16, "max": 64, "default": 32}, width={"min": 24, "max": 64})
    tensor = _input(kind="tensor", shape=[1, {"min": 2, "max": 9}])
    sample = draw_samples(NOISE, {"image": image, "x": tensor}, 1, 0)[0]
    assert sample.tensors["image"].shape == (1, 3, 32, 24)
    assert sample.tensors["x"].shape == (1, 2)


@pytest.mark.parametrize(
    ("options", "low", "high"),
    [
        ({"dtype": "int32", "high": 7.0}, 0, 6),
        ({"dtype": "int32", "low": 3.0, "high": 5.0}, 3, 4),
        ({"low": -2.0, "high": 3.0}, -2, 3),
        ({"low": 5.0}, 5, 6),
        ({"high": -4.0}, -5, -4),
        ({"dtype": "float16", "low": 0.0, "high": 1.0}, 0, 1),
        ({}, -4.5, 4.5),
    ],
)
def test_tensors_fill_the_range_that_the_input_declares(options: dict[str, Any], low: float, high: float) -> None:
    spec = _input(kind="tensor", shape=[40, 50], **options)
    sample = draw_samples(NOISE, {"x": spec}, 1, 0)[0]
    given, tensor = sample.given["x"], sample.tensors["x"]
    assert isinstance(given, np.ndarray)
    assert given.dtype == np.dtype(options.get("dtype", "float32"))
    assert tensor.dtype == (torch.int32 if given.dtype == np.int32 else torch.float32)
    assert np.array_equal(given, tensor.numpy().astype(given.dtype))
    assert low <= given.min() < given.max() <= high
    assert float(given.max() - given.min()) > 0.7 * (high - low)  # 2,000 values reach nearly to both ends


def test_all_held_out_digits_carry_their_labels() -> None:
    samples = draw_samples(DIGITS, {"image": _image("G", 8, 8)}, None, 0)
    levels, labels = load_digits()
    assert len(samples) == 360
    assert [s.label for s in samples] == [str(label) for label in labels[1437:]]
    assert {s.label for s in samples} == set("0123456789")
    # At their own size the pictures are the data itself.
    assert np.array_equal(samples[5].tensors["image"][0, 0].numpy(), levels[1442].astype(np.float32))


def test_the_two_parts_of_the_digits_are_complete_and_apart() -> None:
    train = draw_samples(DigitsData(kind="digits", split="train"), {"image": _image("G", 8, 8)}, None, 0)
    assert len(train) == 1437
    with pytest.raises(SourceError, match="has 360 samples, and 361 are asked for"):
        draw_samples(DIGITS, {"image": _image()}, 361, 0)


def test_the_digits_are_those_that_scikit_learn_loads() -> None:
    from sklearn.datasets import load_digits as reference

    expected = reference()
    levels, labels = load_digits()
    assert np.array_equal(labels, expected.target)
    assert np.array_equal(levels, np.floor(expected.images * 255 / 16 + 0.5).astype(np.uint8))


def test_missing_data_is_a_source_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SourceError, match="scikit-learn, which is not installed"):
        shipped.shipped_file("images/china.jpg")


def _spec(**changes: Any) -> BuildSpec:
    values = {
        "source": {"kind": "torchvision", "name": "mobilenet_v2"},
        "input": {"image": {"kind": "image", "shape": [1, 3, 32, 32], "scale": 1.0}},
        "precision": {"kind": "fp16"},
        "target": {"name": "ios16"},
        "tracking": {"kind": "none"},
    }
    return BuildSpec.model_validate(values | changes)


def test_examples_have_a_digest_of_their_values() -> None:
    first, again, other = make_examples(_spec()), make_examples(_spec()), make_examples(_spec(seed=1))
    assert len(first.samples) == 4
    assert first.digest == again.digest != other.digest
    assert first.digest.startswith("sha256:")


def test_examples_do_not_depend_on_the_checks() -> None:
    checks = {"accuracy": {"kind": "accuracy", "data": {"kind": "digits"}}}
    assert make_examples(_spec(checks=checks)).digest == make_examples(_spec()).digest


def test_drawing_does_not_import_scikit_learn() -> None:
    import subprocess

    code = (
        "import sys\n"
        "from builder.data import draw_samples\n"
        "from builder.spec.data import DigitsData, PhotographsData\n"
        "from builder.spec.inputs import ImageInput\n"
        "inputs = {'image': ImageInput(kind='image', shape=[1, 3, 8, 8], scale=1.0)}\n"
        "draw_samples(DigitsData(kind='digits'), inputs, 2, 0)\n"
        "draw_samples(PhotographsData(kind='photographs'), inputs, 2, 0)\n"
        "sys.exit('sklearn' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
