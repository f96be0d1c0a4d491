"""Malformed inputs and flipped bytes: a clear error of ours, or a sound answer, and nothing else."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coremltools import models
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it
from coremltools.converters.mil.mil import types
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder, quantization_utils
from coremltools.models.utils import save_spec
from PIL import Image

from coreml_runtime import InputError, RuntimeFailure, load
from coreml_runtime.model import Model
from tests.runtime.programs import save_program

SEEDS = 80
SECONDS = 5.0
"""A prediction of the sound file takes milliseconds; a busy machine may take its time."""


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program whose weights are palettised, blockwise, sparse, and both."""
    chance = np.random.default_rng(0)

    def build(x: Any) -> Any:
        indices = chance.integers(0, 16, (16, 16)).astype(types.np_uint4_dtype)
        table = chance.standard_normal((2, 1, 16, 1)).astype(np.float16)
        palette = mb.constexpr_lut_to_dense(indices=indices, lut=table)
        data = chance.integers(-8, 8, (16, 16)).astype(types.np_int4_dtype)
        scale = chance.random((16, 2)).astype(np.float16)
        blocks = mb.constexpr_blockwise_shift_scale(data=data, scale=scale)
        mask = (chance.random((16, 16)) < 0.5).astype(types.np_uint1_dtype)
        values = chance.standard_normal(int(np.count_nonzero(mask))).astype(np.float16)
        sparse = mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)
        for weight in (palette, blocks, sparse):
            x = mb.linear(x=x, weight=weight)
        return x

    return save_program(tmp_path_factory.mktemp("compressed"), build, {"x": ((1, 16), "fp16")}, opset="ios18")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quantised neural network with an image input."""
    chance = np.random.default_rng(0)
    builder = NeuralNetworkBuilder([("image", datatypes.Array(3, 8, 8))], [("scores", datatypes.Array(4))])
    builder.add_convolution(
        "conv", 3, 4, 3, 3, 1, 1, "same", 1, chance.random((3, 3, 3, 4)).astype(np.float32),
        np.zeros(4, np.float32), True, input_name="image", output_name="a",
    )  # fmt: skip
    builder.add_activation("relu", "RELU", "a", "b")
    builder.add_flatten("flat", 0, "b", "c")
    builder.add_inner_product(
        "dense", chance.random((4, 256)).astype(np.float32), np.zeros(4, np.float32), 256, 4, True, "c", "scores"
    )
    builder.set_pre_processing_parameters(image_input_names=["image"], image_scale=1 / 255)
    mode = models._QUANTIZATION_MODE_LINEAR_QUANTIZATION
    quantization_utils._quantize_spec_weights(builder.spec, 8, mode)
    path = tmp_path_factory.mktemp("network") / "model.mlmodel"
    save_spec(builder.spec, str(path))
    return path


def predict_program(path: Path) -> None:
    load(path).predict({"x": np.ones((1, 16), np.float32)})


def predict_network(path: Path) -> None:
    load(path).predict({"image": Image.new("RGB", (8, 8))})


def outcomes(path: Path, file: Path, predict: Callable[[Path], None], damage: Callable[[bytearray, Any], None]) -> Any:
    """What comes of SEEDS kinds of damage to `file`; any error but ours, or a slow one, fails the test."""
    sound = file.read_bytes()
    found: Counter[str] = Counter()
    for seed in range(SEEDS):
        content = bytearray(sound)
        damage(content, random.Random(seed))
        file.write_bytes(content)
        started = time.perf_counter()
        try:
            predict(path)
            found["predicted"] += 1
        except RuntimeFailure as error:
            found["refused" if str(error) else "refused without a word"] += 1
        assert time.perf_counter() - started < SECONDS, f"seed {seed}"
    return found


def flip_bit(content: bytearray, chance: random.Random) -> None:
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def overwrite(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(content))
    content[start : start + 8] = chance.randbytes(min(8, len(content) - start))


def cut_out(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(content))
    del content[start : start + chance.randrange(1, 64)]


DAMAGES = [flip_bit, overwrite, cut_out]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["model.mlmodel", "weights/weight.bin"])
def test_bytes_of_a_compressed_program(
    compressed: Path, tmp_path: Path, file: str, damage: Callable[[bytearray, random.Random], None]
) -> None:
    # given
    package = Path(shutil.copytree(compressed, tmp_path / "model.mlpackage"))

    # when
    found = outcomes(package, package / "Data/com.apple.CoreML" / file, predict_program, damage)

    # then: some damage is refused; how much is harmless depends on what it hits
    assert found["refused"]
    assert found["refused"] + found["predicted"] == SEEDS


@pytest.mark.parametrize("damage", DAMAGES)
def test_bytes_of_a_neural_network(
    network: Path, tmp_path: Path, damage: Callable[[bytearray, random.Random], None]
) -> None:
    # given
    file = Path(shutil.copy(network, tmp_path / "model.mlmodel"))

    # when
    found = outcomes(file, file, predict_network, damage)

    # then
    assert found["refused"]
    assert found["refused"] + found["predicted"] == SEEDS


MALFORMED = {
    "no inputs": {},
    "no dictionary value": {"x": None},
    "another name": {"y": np.ones((1, 16))},
    "one too many": {"x": np.ones((1, 16)), "y": 1},
    "text": {"x": "1"},
    "bytes": {"x": b"1"},
    "a dictionary": {"x": {}},
    "a set": {"x": {1.0}},
    "an object": {"x": object()},
    "objects": {"x": np.array([None] * 16, dtype=object).reshape(1, 16)},
    "complex numbers": {"x": np.ones((1, 16), np.complex64)},
    "complex tensor": {"x": torch.ones(1, 16, dtype=torch.complex64)},
    "dates": {"x": np.zeros((1, 16), "datetime64[s]")},
    "strings": {"x": np.array([["a"] * 16])},
    "records": {"x": np.zeros((1, 16), [("a", "f4")])},
    "ragged lists": {"x": [[1.0] * 16, [1.0]]},
    "lists of None": {"x": [[None] * 16]},
    "an empty list": {"x": []},
    "a scalar": {"x": 1.0},
    "an empty array": {"x": np.ones((0, 16))},
    "too few": {"x": np.ones((1, 15))},
    "too many": {"x": np.ones((1, 17))},
    "another batch": {"x": np.ones((2, 16))},
    "a rank less": {"x": np.ones(16)},
    "a rank more": {"x": np.ones((1, 1, 16))},
    "transposed": {"x": np.ones((16, 1))},
    "an image": {"x": Image.new("RGB", (16, 1))},
    "a sparse tensor": {"x": torch.ones(1, 16).to_sparse()},
    "a meta tensor": {"x": torch.ones(1, 16, device="meta")},
    "a quantised tensor": {"x": torch.ones(1, 16).to(torch.float8_e4m3fn).reshape(16)},
}


@pytest.fixture(scope="module")
def program(compressed: Path) -> Model:
    return load(compressed)


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_inputs_of_a_program(program: Model, name: str) -> None:
    # given, when, then: the error says what was expected, by name
    with pytest.raises(InputError, match="x"):
        program.predict(MALFORMED[name])


IMAGES = {
    "an array": np.zeros((8, 8, 3), np.uint8),
    "a tensor": torch.zeros(1, 3, 8, 8),
    "a path": "cat.jpg",
    "None": None,
    "too wide": Image.new("RGB", (9, 8)),
    "too high": Image.new("RGB", (8, 9)),
    "empty": Image.new("RGB", (0, 0)),
    "grey": Image.new("L", (8, 8)),
    "one bit": Image.new("1", (8, 8)),
    "a palette": Image.new("P", (8, 8)),
    "floating": Image.new("F", (8, 8)),
    "CMYK": Image.new("CMYK", (8, 8)),
}


@pytest.mark.parametrize("name", IMAGES)
def test_malformed_images_of_a_network(network: Path, name: str) -> None:
    # given, when, then
    with pytest.raises(InputError, match="image"):
        load(network).predict({"image": IMAGES[name]})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("form", [np.array, list, torch.tensor])
def test_numbers_that_are_none_go_through(program: Model, value: float, form: Callable[[Any], Any]) -> None:
    # given, when: 1e30 overflows to infinity in half precision
    result = program.predict({"x": form([[value] * 16])})

    # then
    (output,) = result.values()
    assert output.shape == (1, 16)
    assert not np.isfinite(output).all()


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x.astype(np.float64), lambda x: x.astype(np.float16), lambda x: x.astype(np.int64),
        lambda x: x.astype(np.bool_), lambda x: x.astype(">f4"), lambda x: np.asfortranarray(x), lambda x: x[:, ::-1],
        lambda x: x.tolist(), lambda x: torch.from_numpy(x), lambda x: torch.from_numpy(x).to(torch.bfloat16),
        lambda x: torch.from_numpy(x).requires_grad_(), lambda x: np.broadcast_to(x[:, :1], (1, 16)),
    ],
)  # fmt: skip
def test_other_forms_of_the_same_numbers_are_the_same(program: Model, form: Callable[[Any], Any]) -> None:
    # given
    x = np.ones((1, 16), np.float32)

    # when
    ours, expected = program.predict({"x": form(x)}), program.predict({"x": x})

    # then
    for name, value in expected.items():
        np.testing.assert_array_equal(ours[name], value)
