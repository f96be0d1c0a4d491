"""Files become exported programs that compute the same, in the declared types, under the file's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder

import coreml_runtime as runtime
from coreml_runtime.export import export
from coreml_runtime.proto import messages
from tests.runtime.programs import save_program
from tests.runtime.test_pipeline import scaler, suppression

_RNG = np.random.default_rng(0)
WEIGHT = _RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
X = torch.from_numpy(_RNG.standard_normal((1, 3, 8, 8)).astype(np.float32))


def conv_and_relu(x: Any) -> Any:
    first = mb.conv(x=x, weight=mb.const(val=WEIGHT, name="kernel"), pad_type="same", name="first")
    return mb.relu(x=first, name="act")


def functions_of(program: Any) -> list[str]:
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


def test_a_program_has_the_names_of_the_file_and_computes_the_same(tmp_path: Path) -> None:
    # given
    path = save_program(tmp_path, conv_and_relu, {"x": ((1, 3, 8, 8), "fp32")})

    # when
    exported = export(path)
    found = exported.program.module()(X)

    # then
    assert list(exported.program.state_dict) == ["kernel"]
    assert [node.name for node in exported.program.graph.nodes] == ["p_kernel", "x", "first", "y0", "output"]
    expected = torch.relu(torch.nn.functional.conv2d(X, torch.from_numpy(WEIGHT), padding=1))
    assert torch.allclose(found["y0"], expected, atol=1e-5)


def test_half_precision_stays_what_the_file_declares(tmp_path: Path) -> None:
    # given: a program that casts its input to float16 once, and its result back once
    path = save_program(tmp_path, conv_and_relu, {"x": ((1, 3, 8, 8), "fp32")}, precision="fp16")

    # when
    native, fast = export(path), export(path, precision="fast")

    # then: no rounding beside those two, weights in half; or none at all, in float32
    assert functions_of(native.program).count("aten.to.dtype") == 2
    assert {str(value.dtype) for value in native.program.state_dict.values()} == {"torch.float16"}
    assert {str(value.dtype) for value in fast.program.state_dict.values()} == {"torch.float32"}
    expected = runtime.load(path).predict({"x": X.numpy()})["y0"]
    found = native.program.module()(X)["y0"]
    assert np.abs(found.numpy() - expected).max() < 2**-9 * np.abs(expected).max()


@pytest.mark.filterwarnings("ignore")  # what coremltools and torch say of tracing
def test_sizes_that_the_file_leaves_open_stay_open(tmp_path: Path) -> None:
    # given
    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(x.shape[0], 3, -1).mean(-1) + x.shape[2]

    traced = torch.jit.trace(Net().eval(), X)  # type: ignore[no-untyped-call] # torch has no annotation here
    size = ct.RangeDim(4, 32, 8)
    model = ct.convert(
        traced, inputs=[ct.TensorType("x", (1, 3, size, 8))], convert_to="mlprogram", skip_model_load=True,
        compute_precision=ct.precision.FLOAT32, minimum_deployment_target=ct.target.iOS17,
    )  # fmt: skip
    model.save(str(tmp_path / "m.mlpackage"))

    # when
    exported = export(tmp_path / "m.mlpackage")

    # then
    assert exported.inputs[0].ranges == {2: (4, 32)}
    other = torch.rand(1, 3, 20, 8)
    (found,) = exported.program.module()(other).values()
    assert torch.allclose(found, Net()(other), atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # what coremltools and torch say of tracing
def test_states_are_buffers_that_the_program_writes(tmp_path: Path) -> None:
    # given
    class Counter(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(3, dtype=torch.float16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.total.add_(x)
            return self.total * 2

    traced = torch.jit.trace(Counter().eval(), torch.zeros(3))  # type: ignore[no-untyped-call] # torch has none
    model = ct.convert(
        traced, inputs=[ct.TensorType("x", (3,))], states=[ct.StateType(ct.TensorType(shape=(3,)), name="total")],
        minimum_deployment_target=ct.target.iOS18, skip_model_load=True,
    )  # fmt: skip
    model.save(str(tmp_path / "m.mlpackage"))

    # when
    exported = export(tmp_path / "m.mlpackage")
    module = exported.program.module()
    results = [next(iter(module(torch.ones(3)).values())).tolist() for _ in range(2)]

    # then
    assert exported.states == {"total": "total"}
    assert results == [[2.0] * 3, [4.0] * 3]


def test_a_network_takes_levels_and_normalises_them_itself(tmp_path: Path) -> None:
    # given
    image = ("image", datatypes.Array(3, 4, 4))
    builder = NeuralNetworkBuilder([image], [("y", None)], disable_rank5_shape_mapping=True)
    builder.add_convolution(
        "conv_1", 3, 2, 1, 1, 1, 1, "valid", 1, WEIGHT[:2, :, :1, :1].transpose(2, 3, 1, 0), np.ones(2), True,
        input_name="image", output_name="y",
    )  # fmt: skip
    builder.set_pre_processing_parameters(image_input_names=["image"], image_scale=0.5, red_bias=-1.0)
    ct.models.MLModel(builder.spec, skip_model_load=True).save(str(tmp_path / "n.mlmodel"))
    levels = torch.arange(48.0).reshape(1, 3, 4, 4)

    # when
    exported = export(tmp_path / "n.mlmodel")
    found = exported.program.module()(levels)["y"]

    # then
    assert sorted(exported.program.state_dict)[:2] == ["conv_1.bias", "conv_1.weight"]
    scaled = levels * 0.5 - torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    kernel = torch.from_numpy(WEIGHT[:2, :, :1, :1])
    assert torch.allclose(found, torch.nn.functional.conv2d(scaled, kernel, torch.ones(2)), atol=1e-4)


RECURRENT = {
    "lstm": lambda: torch.nn.LSTM(4, 5, bidirectional=True),
    "gru": lambda: torch.nn.GRU(4, 5, bidirectional=True),
    "rnn": lambda: torch.nn.RNN(4, 5),
}


@pytest.mark.parametrize("length", [(2, 40, 7), (7, 7, 7)])
@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.filterwarnings("ignore")  # what coremltools and torch say of tracing
def test_a_recurrent_layer_over_an_open_length_is_one_loop(
    kind: str, length: tuple[int, int, int], tmp_path: Path
) -> None:
    # given
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = RECURRENT[kind]()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.layer(x)[0]
            return found

    net = Net().eval()
    traced = torch.jit.trace(net, torch.zeros(7, 2, 4))  # type: ignore[no-untyped-call] # torch has none
    is_open = length[0] != length[1]
    model = ct.convert(
        traced, inputs=[ct.TensorType("x", (ct.RangeDim(*length) if is_open else 7, 2, 4))], convert_to="mlprogram",
        skip_model_load=True,
        compute_precision=ct.precision.FLOAT32, minimum_deployment_target=ct.target.iOS17,
    )  # fmt: skip
    model.save(str(tmp_path / "m.mlpackage"))

    # when
    exported = export(tmp_path / "m.mlpackage")

    # then
    assert exported.inputs[0].ranges == ({0: (2, 40)} if is_open else {})
    other = torch.rand(23 if is_open else 7, 2, 4)
    (found,) = exported.program.module()(other).values()
    with torch.no_grad():
        assert torch.allclose(found, net(other), atol=1e-5)


def test_an_operator_of_two_types_computes_in_the_wider_one(tmp_path: Path) -> None:
    # given: a convolution of half numbers with weights in float32
    def build(x: Any) -> Any:
        return mb.conv(x=x, weight=WEIGHT, name="mixed")

    path = save_program(tmp_path, build, {"x": ((1, 3, 8, 8), "fp16")}, opset="ios18")

    # when
    (found,) = export(path).program.module()(X.half()).values()

    # then
    expected = torch.nn.functional.conv2d(X.half().float(), torch.from_numpy(WEIGHT))
    assert torch.allclose(found.float(), expected, atol=2e-3 * float(expected.abs().max()))


def _layers(name: str, reads: str, gives: dict[str, float], shape: tuple[int, ...]) -> Any:
    """A neural network whose outputs are its input, each times a number."""
    outputs = [(each, datatypes.Array(*shape)) for each in gives]
    builder = NeuralNetworkBuilder([(reads, datatypes.Array(*shape))], outputs, disable_rank5_shape_mapping=True)
    for output, factor in gives.items():
        builder.add_activation(f"{name}_{output}", "LINEAR", reads, output, [factor, 0.0])
    found = messages("Model_pb2").Model()
    found.ParseFromString(builder.spec.SerializeToString())
    return found


def test_the_network_of_a_pipeline_travels_and_the_other_stages_are_named(tmp_path: Path) -> None:
    # given
    whole = messages("Model_pb2").Model(specificationVersion=4)
    network = _layers("net", "x", {"raw_confidence": 2.0, "raw_coordinates": 3.0}, (4, 4))
    whole.pipeline.models.extend([network, suppression(per_class=True)])
    whole.description.input.extend(network.description.input)
    whole.description.output.extend(whole.pipeline.models[1].description.output)
    path = tmp_path / "m.mlmodel"
    path.write_bytes(whole.SerializeToString())

    # when
    exported = export(path)

    # then
    assert exported.outputs == ("raw_confidence", "raw_coordinates")
    (left,) = exported.left
    assert "non-maximum suppression" in left
    assert "at least 0.3, and of each class no two that overlap by more than 0.5" in left
    found = exported.program.module()(torch.ones(4, 4))
    assert found["raw_coordinates"].tolist() == [[3.0] * 4] * 4


def test_networks_that_follow_one_another_are_one_program(tmp_path: Path) -> None:
    # given (x * 2) * 5, both results asked for
    whole = messages("Model_pb2").Model(specificationVersion=4)
    parts = [_layers("one", "x", {"h": 2.0}, (3,)), _layers("two", "h", {"y": 5.0}, (3,))]
    whole.pipeline.models.extend(parts)
    whole.description.input.extend(parts[0].description.input)
    for part in parts:
        whole.description.output.extend(part.description.output)
    path = tmp_path / "m.mlmodel"
    path.write_bytes(whole.SerializeToString())

    # when
    found = export(path).program.module()(torch.ones(3))

    # then
    assert {name: value.tolist() for name, value in found.items()} == {"h": [2.0] * 3, "y": [10.0] * 3}


def test_a_pipeline_without_a_network_is_refused_with_its_stages(tmp_path: Path) -> None:
    # given
    whole = messages("Model_pb2").Model(specificationVersion=4)
    whole.pipeline.models.extend([scaler("x", "y", shift=1.0, scale=2.0)])
    whole.description.input.extend(whole.pipeline.models[0].description.input)
    whole.description.output.extend(whole.pipeline.models[0].description.output)
    path = tmp_path / "m.mlmodel"
    path.write_bytes(whole.SerializeToString())

    # when, then
    with pytest.raises(runtime.UnsupportedError, match="no stage of the pipeline is a network, only scaler"):
        export(path)


def test_what_is_written_into_a_constant_is_no_second_output(tmp_path: Path) -> None:
    def write(x: Any) -> Any:
        zeros = mb.const(val=np.zeros((2, 6, 4), np.float32))
        first = mb.slice_update(x=zeros, update=x, begin=[0, 1, 0], end=[2, 6, 4], stride=[1, 2, 1])
        return mb.slice_update(
            x=first, update=mb.slice_by_index(x=x, begin=[0, 0, 0], end=[1, 1, 4]), begin=[1, 5, 3], end=[2, 4, 0],
            stride=[1, -1, -1], end_mask=[False, False, True],
        )  # fmt: skip

    path = save_program(tmp_path, write, {"x": ((2, 3, 4), "fp32")}, opset="ios18")
    exported = export(path)
    assert not exported.program.graph_signature.buffers_to_mutate
    x = torch.arange(24.0).reshape(2, 3, 4)
    expected = torch.zeros(2, 6, 4)
    expected[:, 1::2] = x
    expected[1, 5] = x[0, 0].flip(0)
    for _ in range(2):
        (found,) = exported.program.module()(x).values()
        torch.testing.assert_close(found, expected)
