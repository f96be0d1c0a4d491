"""Each rule on a file that has what it is about, and on a plain convolutional model that has nothing of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder

from builder.analysis.neural_engine.inspect import accepted, lint
from builder.analysis.neural_engine.model import Model, Operator, Tensor
from builder.analysis.neural_engine.read import read_model
from builder.analysis.neural_engine.table import RULES
from coreml_runtime.errors import ModelError
from tests.runtime.programs import save_program

PICTURE = {"x": ((1, 4, 16, 16), "fp16")}
RANDOM = np.random.default_rng(0)


def weight(*shape: int, dtype: type = np.float16) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(dtype)


def clean(x: Any) -> Any:
    return mb.relu(x=mb.conv(x=x, weight=weight(8, 4, 3, 3), pad_type="same"))


def recurrent(x: Any) -> Any:
    zeros = np.zeros((1, 4), np.float16)
    return mb.lstm(x=x, initial_h=zeros, initial_c=zeros, weight_ih=weight(16, 8), weight_hh=weight(16, 4))[0]


def sequence(x: Any) -> Any:
    return mb.linear(x=x, weight=weight(8, 4))


FOUND: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "recurrent": (recurrent, {"x": ((3, 1, 8), "fp16")}),
    "rank": (lambda x: mb.relu(x=mb.reshape(x=x, shape=(1, 2, 2, 16, 16))), PICTURE),
    "large_dimension": (lambda x: mb.linear(x=x, weight=weight(16400, 4)), {"x": ((1, 4), "fp16")}),
    "large_kernel": (lambda x: mb.conv(x=x, weight=weight(2, 4, 15, 15), pad_type="same"), PICTURE),
    "dilated_convolution": (
        lambda x: mb.conv(x=x, weight=weight(2, 4, 3, 3), dilations=[2, 2], pad_type="same"), PICTURE,
    ),
    "convolution_3d": (lambda x: mb.conv(x=x, weight=weight(2, 4, 3, 3, 3)), {"x": ((1, 4, 8, 8, 8), "fp16")}),
    "gather": (lambda x: mb.gather(x=weight(10, 4), indices=x, axis=0), {"x": ((3,), "int32")}),
    "scatter": (lambda x: mb.reduce_prod(x=x, axes=[1]), PICTURE),
    "sort": (lambda x: mb.topk(x=x, k=2, axis=1)[0], PICTURE),
    "long_argmax": (lambda x: mb.reduce_argmax(x=x, axis=1), {"x": ((1, 3000), "fp16")}),
    "integer_arithmetic": (lambda x: mb.mul(x=x, y=np.int32(3)), {"x": ((3,), "int32")}),
    "padding_mode": (lambda x: mb.pad(x=x, pad=[1, 1, 1, 1], mode="reflect"), PICTURE),
    "layout": (sequence, {"x": ((1, 6, 4), "fp16")}),
    "narrow_last_axis": (lambda x: mb.relu(x=x), {"x": ((1, 4, 8192, 1), "fp16")}),
    "working_set": (lambda x: mb.relu(x=x), {"x": ((1, 16, 512, 256), "fp16")}),
}  # fmt: skip
"""By rule, an ML program in float16."""


def names(path: Path) -> set[str]:
    return {finding.rule for finding in lint(path)}


@pytest.mark.parametrize("rule", FOUND)
def test_a_rule_finds_what_it_is_about(rule: str, tmp_path: Path) -> None:
    build, values = FOUND[rule]
    assert rule in names(save_program(tmp_path, build, values, precision="fp16"))


def test_nothing_is_found_in_a_plain_convolution_in_half_precision(tmp_path: Path) -> None:
    assert names(save_program(tmp_path, clean, PICTURE, precision="fp16")) == set()


def test_float32_is_found_and_counted(tmp_path: Path) -> None:
    (finding,) = lint(save_program(tmp_path, clean, {"x": ((1, 4, 16, 16), "fp32")}, precision="fp32"))
    assert (finding.rule, finding.count, finding.confidence) == ("float32", 2, "high")
    assert any("(conv)" in example for example in finding.examples)


def test_a_rank_that_core_ml_refuses_is_found() -> None:
    # coremltools refuses to write such a file, so the rule is asked itself
    tensor = Tensor(dtype="fp16", shape=(1, 2, 2, 2, 2, 2))
    model = Model(inputs=(), operators=(Operator(kind="add", name="six", outputs=(tensor,)),))
    assert [hit.name for hit in RULES["rank_above_5"].find(model)] == ["six"]
    assert not list(RULES["rank"].find(model))


def test_weights_that_are_unpacked_and_the_normalisation_of_a_picture_are_not_counted() -> None:
    # given a table of six dimensions, weights of 1 x 1 kernels, and a picture that is normalised in float32
    shapes = {"constexpr_lut_to_dense": (1, 1, 1, 1, 64, 1), "constexpr_sparse_to_dense": (400, 400, 1, 1)}
    weights = [
        Operator(kind=kind, name=kind, outputs=(Tensor(dtype="fp16", shape=shape),)) for kind, shape in shapes.items()
    ]
    picture = Operator(kind="batch_norm", name="n", outputs=(Tensor(dtype="fp32", shape=(1, 3, 32, 32)),))
    model = Model(inputs=(), operators=(*weights, picture))
    # then no rule is about them
    assert {rule for rule, entry in RULES.items() if list(entry.find(model))} == set()


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # a temporary folder of coremltools
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit.trace, which coremltools takes
@pytest.mark.parametrize(
    ("shape", "rule"),
    [
        (ct.Shape((1, 4, ct.RangeDim(8, 16, default=8), 16)), "flexible_range"),
        (ct.EnumeratedShapes([[1, 4, 8, 16], [1, 4, 16, 16]]), "flexible_enumerated"),
    ],
)
def test_flexible_inputs_are_found(shape: Any, rule: str, tmp_path: Path) -> None:
    path = tmp_path / "model.mlpackage"
    traced = torch.jit.trace(torch.nn.ReLU(), torch.zeros(1, 4, 8, 16), check_trace=False)
    inputs, outputs = [ct.TensorType(name="x", shape=shape)], [ct.TensorType(name="y")]
    model = ct.convert(traced, inputs=inputs, outputs=outputs, skip_model_load=True)
    model.save(str(path))
    assert names(path) == {rule}


def test_layers_of_a_neural_network_are_found(tmp_path: Path) -> None:
    # given a network with a dilated convolution, a broadcastable layer, a gather and a custom layer
    inputs = [("x", datatypes.Array(4, 8, 8)), ("i", datatypes.Array(1))]
    made = NeuralNetworkBuilder(inputs, [("y", datatypes.Array(4, 8, 8))], disable_rank5_shape_mapping=True)
    made.add_convolution(
        name="c", kernel_channels=4, output_channels=4, height=3, width=3, stride_height=1, stride_width=1,
        border_mode="same", groups=1, W=weight(3, 3, 4, 4, dtype=np.float32), b=None, has_bias=False, input_name="x",
        output_name="c", dilation_factors=[2, 2],
    )  # fmt: skip
    made.add_add_broadcastable("a", ["c", "x"], "a")
    made.add_gather("g", ["a", "i"], "g")
    layer = made.nn_spec.layers.add(name="own", input=["g"], output=["y"])
    layer.custom.className = "Own"
    path = tmp_path / "model.mlmodel"
    ct.models.utils.save_spec(made.spec, str(path))
    # then each is found by its rule
    assert {"dilated_convolution", "broadcastable_layer", "gather", "custom_layer"} <= names(path)


def test_every_rule_is_tried_here() -> None:
    others = {"rank_above_5", "float32", "flexible_range", "flexible_enumerated", "custom_layer", "broadcastable_layer"}
    assert set(FOUND) | others == set(RULES)


def test_the_surest_comes_first_and_what_is_accepted_last(tmp_path: Path) -> None:
    path = save_program(tmp_path, sequence, {"x": ((1, 6, 4), "fp32")}, precision="fp32")
    assert [finding.rule for finding in lint(path)] == ["float32", "layout"]
    sorted_out = accepted(lint(path), {"float32": "accuracy"})
    assert [(finding.rule, finding.ignored) for finding in sorted_out] == [("layout", None), ("float32", "accuracy")]


def test_a_file_is_read_without_coremltools(tmp_path: Path) -> None:
    path = save_program(tmp_path, clean, PICTURE, precision="fp16")
    code = f"""
import sys
from pathlib import Path
from builder.analysis.neural_engine.inspect import lint
lint(Path({str(path)!r}))
assert "coremltools" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    file = tmp_path / "model.mlmodel"
    file.write_bytes(b"nothing")
    with pytest.raises(ModelError):
        read_model(file)
