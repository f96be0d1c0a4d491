"""Neural network layers that Apple's tests do not reach on this machine, and how a network is bound and run."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from coreml_runtime.errors import ModelError, UnsupportedError
from coreml_runtime.nn.network import compile_network
from coreml_runtime.proto import messages

FLOAT32 = 65568


def model(layers: list[tuple[str, dict[str, Any], list[str], list[str]]], *, legacy: bool = False) -> Any:
    """A Model message of a network whose output is y; a layer is (kind, fields, inputs, outputs)."""
    specification = messages("Model_pb2").Model(specificationVersion=4)
    network = specification.neuralNetwork
    network.arrayInputShapeMapping = 0 if legacy else 1
    inputs = {name for _, _, names, _ in layers for name in names} - {name for *_, names in layers for name in names}
    for name in sorted(inputs):
        entry = specification.description.input.add(name=name)
        entry.type.multiArrayType.dataType = FLOAT32
    specification.description.output.add(name="y").type.multiArrayType.dataType = FLOAT32
    for index, (kind, fields, read, written) in enumerate(layers):
        add_layer(network, f"layer{index}", kind, fields, read, written)
    return specification


def add_layer(network: Any, name: str, kind: str, fields: dict[str, Any], read: list[str], written: list[str]) -> None:
    layer = network.layers.add(name=name, input=read, output=written)
    parameters = getattr(layer, kind)
    parameters.SetInParent()
    for field, value in fields.items():
        if isinstance(value, list):
            getattr(parameters, field).extend(value)
        else:
            setattr(parameters, field, value)


def run(specification: Any, **inputs: Any) -> Tensor:
    values = {name: torch.as_tensor(value, dtype=torch.float32) for name, value in inputs.items()}
    result = compile_network(specification).run(values, states={}, record=None)["y"]
    assert isinstance(result, Tensor)
    return result


X = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 10 - 0.7

SINGLE = {
    "flatten": ({}, X.reshape(2, 12, 1, 1)),
    "flatten last": ({"mode": 1}, X.transpose(0, 2, 3, 1).reshape(2, 12, 1, 1)),
    "softmax": ({}, np.exp(X) / np.exp(X).sum(axis=-3, keepdims=True)),
    "reduce": ({"mode": 0, "axis": 0}, X.sum(axis=(-3, -2, -1), keepdims=True)),
    "reduce avg": ({"mode": 1, "axis": 1}, X.mean(axis=(-2, -1), keepdims=True)),
    "reduce logsum": ({"mode": 3, "axis": 2, "epsilon": 2.0}, np.log(X + 2).sum(axis=-3, keepdims=True)),
    "reduce sumsquare": ({"mode": 4, "axis": 3}, (X * X).sum(axis=-2, keepdims=True)),
    "reduce l2": ({"mode": 6, "axis": 4}, np.sqrt((X * X).sum(axis=-1, keepdims=True))),
    "reduce argmax": ({"mode": 9, "axis": 2}, X.argmax(axis=-3)[:, None]),
}


@pytest.mark.parametrize("case", SINGLE)
def test_a_layer_of_one_input_computes_its_formula(case: str) -> None:
    # given the layer and its formula in numpy
    fields, expected = SINGLE[case]
    # when the network runs
    result = run(model([(case.split()[0], fields, ["x"], ["y"])]), x=X)
    # then both agree; single precision rounds sums of a dozen values in the seventh digit
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_average_dot_and_cosine() -> None:
    a, b = X[:, :, :1, :1], X[:, :, 1:, 1:] + 1
    assert torch.allclose(run(model([("average", {}, ["a", "b"], ["y"])]), a=a, b=b), torch.tensor((a + b) / 2))
    dot = (a * b).sum(axis=1, keepdims=True)
    assert torch.allclose(run(model([("dot", {}, ["a", "b"], ["y"])]), a=a, b=b), torch.tensor(dot))
    cosine = dot / np.sqrt((a * a).sum(axis=1, keepdims=True) * (b * b).sum(axis=1, keepdims=True))
    result = run(model([("dot", {"cosineSimilarity": True}, ["a", "b"], ["y"])]), a=a, b=b)
    assert torch.allclose(result, torch.tensor(cosine), atol=1e-5)


def test_permute_and_sequence_repeat_work_on_rank_5() -> None:
    x = X.reshape(2, 1, 3, 2, 2)
    permuted = run(model([("permute", {"axis": [3, 1, 2, 0]}, ["x"], ["y"])], legacy=True), x=x)
    assert permuted.shape == (2, 1, 3, 2, 2)
    np.testing.assert_array_equal(permuted.numpy(), x.transpose(4, 1, 2, 3, 0))
    repeated = run(model([("sequenceRepeat", {"nRepetitions": 2}, ["x"], ["y"])], legacy=True), x=x)
    np.testing.assert_array_equal(repeated.numpy(), np.concatenate([x, x]))


@pytest.mark.parametrize(
    ("mode", "grid"), [(0, [0, 1, 2, 3]), (2, [0, 3 / 4 * 1.3333333, 2, 3]), (3, [0.375, 1.125, 1.875, 2.625])]
)
def test_resize_bilinear_samples_the_grid_of_its_mode(mode: int, grid: list[float]) -> None:
    # given four pixels in a row, each worth its position: the result is the grid itself
    specification = model([("resizeBilinear", {"targetSize": [1, 4]}, ["x"], ["y"])])
    specification.neuralNetwork.layers[0].resizeBilinear.mode.samplingMethod = mode
    # when they are resized to as many pixels
    result = run(specification, x=np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4))
    # then the samples lie where NeuralNetwork.proto says
    np.testing.assert_allclose(result.flatten().numpy(), grid, atol=1e-5)


def test_non_maximum_suppression_keeps_the_best_and_pads() -> None:
    boxes = [[[0, 0, 2, 2], [0.1, 0, 2, 2], [9, 9, 1, 1]]]
    specification = model(
        [("NonMaximumSuppression", {"iouThreshold": 0.5, "maxBoxes": 3}, ["boxes", "scores"], ["b", "s", "y", "n"])]
    )
    result = run(specification, boxes=boxes, scores=[[[0.8], [0.9], [0.7]]])
    assert result.tolist() == [[1.0, 2.0, -1.0]]


def test_a_loop_continues_and_breaks() -> None:
    # given a loop of at most ten turns that counts every turn, skips the sum from the third on and ends after the sixth
    specification = model([("loadConstantND", {"shape": [1]}, [], [name]) for name in ("zero", "turns")])
    network = specification.neuralNetwork
    for layer in network.layers:
        layer.loadConstantND.data.floatValue.append(0.0)
    add_layer(network, "start", "copy", {}, ["zero"], ["sum"])
    loop = network.layers.add(name="loop").loop
    loop.maxLoopIterations = 10
    body = loop.bodyNetwork
    add_layer(body, "next", "add", {"alpha": 1.0}, ["turns"], ["more"])
    add_layer(body, "count", "copy", {}, ["more"], ["turns"])
    for name, limit, ends in (("over", 6.0, "loopBreak"), ("skip", 3.0, "loopContinue")):
        add_layer(body, name, "greaterEqual", {"alpha": limit}, ["turns"], [name])
        branch = body.layers.add(name=f"if_{name}", input=[name]).branch
        add_layer(branch.ifBranch, ends, ends, {}, [], [])
    add_layer(body, "grow", "add", {"alpha": 1.0}, ["sum"], ["grown"])
    add_layer(body, "keep", "copy", {}, ["grown"], ["sum"])
    add_layer(network, "join", "concatND", {"axis": 0}, ["turns", "sum"], ["y"])
    # when it runs, then the loop ended in turn six and the sum grew twice
    assert run(specification).tolist() == [6.0, 2.0]


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_quantised_weights_are_unpacked(bits: int) -> None:
    # given codes of some bits, packed with the most significant bit first, and a scale for each output channel
    codes = np.random.default_rng(0).integers(0, 2**bits, size=(3, 5))
    scale = np.array([0.5, 0.25, 2.0], dtype=np.float32)
    planes = (codes.reshape(-1, 1) >> np.arange(bits - 1, -1, -1)) & 1
    specification = model([("innerProduct", {"inputChannels": 5, "outputChannels": 3}, ["x"], ["y"])])
    weights = specification.neuralNetwork.layers[0].innerProduct.weights
    weights.rawValue = np.packbits(planes.astype(np.uint8).reshape(-1)).tobytes()
    weights.quantization.numberOfBits = bits
    weights.quantization.linearQuantization.scale.extend(scale)
    # when a unit vector goes through, then the columns of the weights come out
    result = run(specification, x=np.eye(5, dtype=np.float32))
    np.testing.assert_allclose(result.numpy(), (codes * scale[:, None]).T)


def test_everything_that_is_missing_is_named_at_once() -> None:
    specification = model([("custom", {"className": "First"}, ["x"], ["h"]), ("copy", {}, ["h"], ["g"])])
    branch = specification.neuralNetwork.layers.add(name="b", input=["g"]).branch
    add_layer(branch.ifBranch, "inner", "custom", {"className": "Second"}, ["g"], ["y"])
    with pytest.raises(UnsupportedError, match=r"'First' \(layer0\).*'Second' \(inner\)"):
        compile_network(specification)


def test_damaged_networks_are_refused() -> None:
    with pytest.raises(ModelError, match="3 values, and the file holds 0"):
        compile_network(model([("loadConstantND", {"shape": [3]}, [], ["y"])]))
    unknown = model([("copy", {}, ["x"], ["y"])])
    unknown.neuralNetwork.layers[0].input[0] = "nowhere"
    with pytest.raises(ModelError, match="reads 'nowhere', which nothing before it writes"):
        compile_network(unknown)
    with pytest.raises(ModelError, match="no layer writes the output y"):
        compile_network(model([("copy", {}, ["x"], ["z"])]))


def test_coupled_gates_use_one_minus_the_input_gate() -> None:
    # given an lstm with coupled gates and zero weights: all gates are one half, the cell input is tanh of its bias
    specification = model(
        [("uniDirectionalLSTM", {"inputVectorSize": 1, "outputVectorSize": 1}, ["x"], ["y"])], legacy=True
    )
    layer = specification.neuralNetwork.layers[0].uniDirectionalLSTM
    for kind in ("sigmoid", "tanh", "tanh"):
        getattr(layer.activations.add(), kind).SetInParent()
    layer.params.coupledInputAndForgetGate = layer.params.hasBiasVectors = layer.params.sequenceOutput = True
    for gate in ("inputGate", "forgetGate", "outputGate", "blockInput"):
        for part in ("WeightMatrix", "RecursionMatrix", "BiasVector"):
            getattr(layer.weightParams, gate + part).floatValue.append(0.0)
    layer.weightParams.blockInputBiasVector.floatValue[0] = 1.0
    layer.weightParams.forgetGateBiasVector.floatValue[0] = 50.0
    # when two steps run
    result = run(specification, x=np.zeros((2, 1, 1, 1, 1)))
    # then the cell keeps half of itself whatever the forget gate says
    cells = [0.5 * np.tanh(1.0), 0.75 * np.tanh(1.0)]
    np.testing.assert_allclose(result.flatten().numpy(), 0.5 * np.tanh(cells), rtol=1e-6)


def test_random_normal_like_has_the_moments_asked_for() -> None:
    # given a seed, a mean of 2 and a deviation of 3
    layers = [("randomNormalLike", {"mean": 2.0, "stdDev": 3.0, "seed": 7}, ["x"], ["y"])]
    # when a hundred thousand values are drawn, twice
    first, second = (run(model(layers), x=np.zeros((100, 1000))) for _ in range(2))
    # then the mean is within five standard errors (3 / 316 * 5), the deviation likewise, and a seed repeats itself
    assert abs(first.mean().item() - 2.0) < 0.05
    assert abs(first.std().item() - 3.0) < 0.05
    assert torch.equal(first, second)


@pytest.mark.parametrize("channels", [3, 4])
def test_scales_of_a_grouped_deconvolution_belong_to_the_outputs_of_a_group(channels: int) -> None:
    # given weights (C, C_out / groups, 2, 2) as coremltools quantises them: a scale for each entry of the second axis
    codes = np.random.default_rng(1).integers(-9, 9, size=(4, channels, 2, 2))
    scale = np.array([0.5, 4.0, 0.125, 1.0], dtype=np.float32)[:channels]
    fields = {
        "outputChannels": 2 * channels, "kernelChannels": 4, "nGroups": 2, "isDeconvolution": True,
        "kernelSize": [2, 2], "stride": [2, 2],
    }  # fmt: skip
    specification = model([("convolution", fields, ["x"], ["y"])])
    parameters = specification.neuralNetwork.layers[0].convolution
    parameters.valid.SetInParent()
    parameters.weights.int8RawValue = codes.astype(np.int8).tobytes()
    parameters.weights.quantization.numberOfBits = 8
    parameters.weights.quantization.linearQuantization.scale.extend(scale)
    x = torch.arange(36, dtype=torch.float32).reshape(1, 4, 3, 3)
    # when
    result = run(specification, x=x)
    # then
    weight = torch.from_numpy(codes * scale[:, None, None]).float()
    torch.testing.assert_close(result, torch.nn.functional.conv_transpose2d(x, weight, stride=2, groups=2))
