"""Weights that are cut out of a neural network's bytes: the same numbers as protobuf reads, in less time and memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coreml_runtime import ModelError, load
from coreml_runtime.nn.network import compile_network
from coreml_runtime.nn.weights import read_weights
from coreml_runtime.proto import messages
from coreml_runtime.wire import MARKER, cut_weights, markers

FLOAT32 = 65568
ROWS, COLUMNS = 96, 64
"""6,144 values: more than a cut takes in every form."""


def fill(message: Any, form: str, seed: int, count: int = ROWS * COLUMNS) -> None:
    """Put `count` random values into a WeightParams message in one of the forms that it has."""
    chance = np.random.default_rng(seed)
    if form == "float":
        message.floatValue.extend(chance.standard_normal(count).tolist())
    elif form == "half":
        message.float16Value = chance.standard_normal(count).astype(np.float16).tobytes()
    elif form == "int8":
        message.int8RawValue = chance.integers(-128, 128, count).astype(np.int8).tobytes()
        message.quantization.linearQuantization.scale.append(0.01)
    else:
        bits = int(form.removeprefix("table").removeprefix("linear"))
        message.rawValue, message.quantization.numberOfBits = chance.bytes(count * bits // 8), bits
        if form.startswith("table"):
            table = chance.standard_normal(1 << bits).tolist()
            message.quantization.lookupTableQuantization.floatValue.extend(table)
        else:
            message.quantization.linearQuantization.scale.extend(chance.random(ROWS).tolist())
            message.quantization.linearQuantization.bias.extend(chance.random(ROWS).tolist())


FORMS = ("float", "half", "int8", "linear8", "table8", "linear6", "table6", "table1")


def network(*forms: str) -> Any:
    """A Model message: a branch of inner products x W^T, one a form, each on the input x, summed up to y."""
    specification = messages("Model_pb2").Model(specificationVersion=4)
    outer = specification.neuralNetwork
    outer.arrayInputShapeMapping = 1
    for features, name, size in (("input", "x", COLUMNS), ("output", "y", ROWS)):
        array = getattr(specification.description, features).add(name=name).type.multiArrayType
        array.dataType, array.shape[:] = FLOAT32, [1, size]
    outer.layers.add(name="yes", output=["yes"]).fillStatic.value = 1.0
    outer.layers[0].fillStatic.targetShape.append(1)
    branch = outer.layers.add(name="branch", input=["yes"], output=[]).branch
    for index, form in enumerate(forms):
        layer = branch.ifBranch.layers.add(name=f"l{index}", input=["x"], output=[f"v{index}"])
        layer.innerProduct.inputChannels, layer.innerProduct.outputChannels = COLUMNS, ROWS
        fill(layer.innerProduct.weights, form, index)
    values = [f"v{index}" for index in range(len(forms))]
    branch.ifBranch.layers.add(name="sum", input=values, output=["y"]).add.SetInParent()
    return specification


def write(folder: Path, content: bytes) -> Path:
    path = folder / "model.mlmodel"
    path.write_bytes(content)
    return path


def shift(specification: Any, by: int) -> None:
    """Move the weights to other addresses."""
    specification.description.metadata.shortDescription = "." * by


@given(forms=st.lists(st.sampled_from(FORMS), min_size=2, max_size=4), moved=st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_cut_weights_are_what_protobuf_reads(
    forms: list[str], moved: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # given a network whose weights lie at any address
    specification = network(*forms)
    shift(specification, moved)
    path = write(tmp_path_factory.mktemp("network"), specification.SerializeToString())
    x = np.random.default_rng(1).standard_normal((1, COLUMNS)).astype(np.float32)
    # when it is loaded from the file, and bound to what protobuf parsed
    found = load(path).predict({"x": x})["y"]
    expected = compile_network(specification).run({"x": torch.from_numpy(x)}, states={}, record=None)["y"]
    # then both are the same to the bit, and no weight is left in the message
    np.testing.assert_array_equal(found, expected.numpy())
    cut = cut_weights(path.read_bytes())
    assert cut is None if set(forms) == {"table1"} else cut is not None and len(cut) < 3000 * len(forms)


@pytest.mark.parametrize("form", FORMS)
def test_values_against_numpy(form: str) -> None:
    # given a message and the plain formula of its form
    message = messages("NeuralNetwork_pb2").WeightParams()
    fill(message, form, 3)
    q = message.quantization
    if form == "float":
        expected = np.array(message.floatValue, np.float32)
    elif form == "half":
        expected = np.frombuffer(message.float16Value, np.float16).astype(np.float32)
    elif form == "int8":
        expected = np.frombuffer(message.int8RawValue, np.int8) * np.float32(0.01)
    else:
        bits = np.unpackbits(np.frombuffer(message.rawValue, np.uint8)).reshape(-1, q.numberOfBits).astype(int)
        indices = (bits << np.arange(q.numberOfBits)[::-1]).sum(axis=1)
        if form.startswith("table"):
            expected = np.array(q.lookupTableQuantization.floatValue, np.float32)[indices]
        else:
            scale, bias = (
                np.array(v, np.float32)[:, None] for v in (q.linearQuantization.scale, q.linearQuantization.bias)
            )
            expected = indices.reshape(ROWS, COLUMNS).astype(np.float32) * scale + bias
    # when, then
    found = read_weights(message, (ROWS, COLUMNS))
    np.testing.assert_allclose(found.numpy(), expected.reshape(ROWS, COLUMNS), rtol=1e-6)


def test_weights_inside_a_pipeline_and_a_loop_are_cut() -> None:
    # given
    inner = network("half", "float")
    loop = inner.neuralNetwork.layers.add(name="loop").loop
    layer = loop.bodyNetwork.layers.add(name="in", input=["x"], output=["z"])
    layer.loop.conditionNetwork.layers.add(name="deep", input=["x"], output=["z"])
    fill(layer.loop.conditionNetwork.layers[0].embeddingND.weights, "half", 0)
    outer = messages("Model_pb2").Model(specificationVersion=4)
    outer.pipelineClassifier.pipeline.models.add().CopyFrom(inner)
    content = outer.SerializeToString()
    # when
    cut = cut_weights(content)
    # then nothing but the weights is gone, and each marker says where they lie
    assert cut is not None
    parsed = messages("Model_pb2").Model.FromString(cut)
    network_ = parsed.pipelineClassifier.pipeline.models[0].neuralNetwork
    deep = network_.layers[2].loop.bodyNetwork.layers[0].loop.conditionNetwork.layers[0].embeddingND.weights
    ((number, start, size),) = markers(deep)
    assert number == 2
    assert content[start : start + size] == layer.loop.conditionNetwork.layers[0].embeddingND.weights.float16Value
    for part in network_.layers[1].branch.ifBranch.layers[:2]:
        assert len(list(markers(part.innerProduct.weights))) == 1


def unusual(content: bytes) -> dict[str, bytes]:
    """Files that mean what protobuf says, written in ways that no cut is made in."""
    parsed = messages("Model_pb2").Model.FromString(content)
    weights = parsed.neuralNetwork.layers[1].branch.ifBranch.layers[0].innerProduct.weights
    values, plain = np.array(weights.floatValue, np.float32), weights.SerializeToString()

    def put(replacement: bytes) -> bytes:
        """The file with other bytes in the place of the weights; the lengths around them are protobuf's."""
        holder = messages("Model_pb2").Model.FromString(content)
        place = holder.neuralNetwork.layers[1].branch.ifBranch.layers[0].innerProduct.weights
        place.Clear()
        place.MergeFromString(replacement) if replacement else None
        return bytes(holder.SerializeToString())

    forged = b"\xc2\xa3\x09\x11" + b"\x01" + (0).to_bytes(8, "little") + (8).to_bytes(8, "little")
    doubled = b"\xa2\x1f" + b"\x00"  # an empty second network is merged into the first
    return {"a forged marker": put(plain + forged), "the network in two parts": content + doubled, "plain": put(plain),
            "values": put(b"\x0a" + _varint(values.nbytes) + values.tobytes())}  # fmt: skip


def _varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14])


def test_unusual_files_mean_what_protobuf_says(tmp_path: Path) -> None:
    # given
    specification = network("float", "half")
    x = np.ones((1, COLUMNS), np.float32)
    expected = compile_network(specification).run({"x": torch.from_numpy(x)}, states={}, record=None)["y"]
    for name, content in unusual(specification.SerializeToString()).items():
        # when
        found = load(write(tmp_path, content)).predict({"x": x})["y"]
        # then
        np.testing.assert_array_equal(found, expected.numpy(), err_msg=name)


def test_unpacked_numbers_and_endless_fields_are_left_to_protobuf() -> None:
    # given a list of numbers with a tag each, and more fields than a network has
    unpacked = b"".join(b"\x0d" + bytes(4) for _ in range(2000))
    weights = b"\x0a" + _varint(len(unpacked)) + unpacked
    # when, then
    assert cut_weights(_nested(weights)) is None
    assert cut_weights(b"\x08\x04" * (1 << 17)) is None


def _nested(field: bytes) -> bytes:
    """A Model with a neuralNetwork (500) with a layer (1) that is a scale (245), which holds the field."""
    for tag in (b"\xaa\x0f", b"\x0a", b"\xa2\x1f"):
        field = tag + _varint(len(field)) + field
    return field


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_protobufs_error(tmp_path: Path, share: float) -> None:
    # given
    content = network("float", "half", "table6").SerializeToString()
    path = write(tmp_path, content[: int(len(content) * share)])
    # when, then
    with pytest.raises(ModelError, match="not a Core ML specification"):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: setattr(p, "inputChannels", 65), "are 6240 values, and the file holds 6144"),
        (lambda p: setattr(p, "inputChannels", 1 << 40), "values, and the file holds 6144"),
        (lambda p: setattr(p.weights, "float16Value", b"\0" * 12289), "an odd number of bytes"),
    ],
)
def test_a_wrong_number_of_cut_values_is_named(tmp_path: Path, change: Any, message: str) -> None:
    # given
    specification = network("half", "float")
    change(specification.neuralNetwork.layers[1].branch.ifBranch.layers[0].innerProduct)
    # when, then
    with pytest.raises(ModelError, match=rf"layer l0 \(innerProduct\): .*{message}"):
        load(write(tmp_path, specification.SerializeToString()))


def test_a_file_may_be_overwritten_while_its_model_is_in_use(tmp_path: Path) -> None:
    # given a model that was loaded and has not predicted yet
    path = write(tmp_path, network("half", "float").SerializeToString())
    x = {"x": np.ones((1, COLUMNS), np.float32)}
    model, expected = load(path), load(path).predict(x)["y"]
    # when its file is cut short in place, as coremltools does when it saves
    path.write_bytes(b"")
    # then
    np.testing.assert_array_equal(model.predict(x)["y"], expected)


_GROWTH = """
import sys, numpy as np
from coreml_runtime import load
import coreml_runtime.nn.network
# anonymous memory: how much of a library's file is resident depends on the system's page cache
anonymous = lambda: 1024 * int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0])
load(sys.argv[2]).predict({"x": np.zeros((1, int(sys.argv[3])), np.float32)})
before = anonymous()
model = load(sys.argv[1])
loaded = anonymous() - before
model.predict({"x": np.zeros((1, 4096), np.float32)})
print(loaded / (4 * 2**23), (anonymous() - before) / (4 * 2**23))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
@pytest.mark.parametrize("form", ["float", "half", "linear8"])
def test_loading_grows_by_the_weights_once(tmp_path: Path, form: str) -> None:
    # given 2^23 values, and a small network that brings the imports in
    specification = network(form)
    specification.description.input[0].type.multiArrayType.shape[1] = 2**12
    specification.description.output[0].type.multiArrayType.shape[1] = 2**11
    layer = specification.neuralNetwork.layers[1].branch.ifBranch.layers[0]
    layer.innerProduct.inputChannels, layer.innerProduct.outputChannels = 2**12, 2**11
    layer.innerProduct.weights.Clear()
    if form == "float":
        layer.innerProduct.weights.MergeFromString(b"\x0a\x80\x80\x80\x10" + bytes(2**25))
    elif form == "half":
        layer.innerProduct.weights.float16Value = bytes(2**24)
    else:
        layer.innerProduct.weights.rawValue = bytes(2**23)
        layer.innerProduct.weights.quantization.numberOfBits = 8
        layer.innerProduct.weights.quantization.linearQuantization.scale.append(1.0)
    path, small = write(tmp_path, specification.SerializeToString()), tmp_path / "small.mlmodel"
    small.write_bytes(network("half", "half").SerializeToString())
    # when
    done = subprocess.run(
        [sys.executable, "-c", _GROWTH, path, small, str(COLUMNS)], check=True, capture_output=True, text=True
    )
    # then: quantised values stay what they are until they are used; the others are there in float32, once
    loaded, predicted = map(float, done.stdout.split())
    assert loaded < (0.5 if form == "linear8" else 1.25)
    assert 0.9 < predicted < 1.25


def test_the_marker_is_a_number_that_no_schema_can_have() -> None:
    assert 19_000 <= MARKER <= 19_999
