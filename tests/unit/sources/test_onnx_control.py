"""Recurrent operators, branches and loops of ONNX files, held against onnxruntime."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.errors import ConversionError
from tests.unit.sources.test_onnx import spec_of, worst_snr

pytestmark = [
    pytest.mark.skipif(find_spec("onnxsim") is None, reason="optional packages"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:onnx"),
]

STEPS, BATCH, INPUT, HIDDEN = 6, 2, 3, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def save(path: Path, nodes: list[Any], constants: dict[str, Any], shape: list[Any], outputs: dict[str, Any]) -> str:
    """A file of one input `x` and these outputs, by name with their shapes."""
    import onnx
    from onnx import helper

    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, kind, size) for name, size in outputs.items()],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return str(path)


def recurrent(
    path: Path,
    kind: str,
    direction: str,
    *,
    length: Any = STEPS,
    ends: str = "",
    peepholes: bool = False,
    **attributes: Any,
) -> str:
    """A layer with biases and initial states, whose last states are outputs too.

    Its sequences have STEPS and two steps where they end as `ends` says: `known`, or `computed` in the graph.
    """
    from onnx import TensorProto, helper

    random = np.random.default_rng(0)
    directions = 2 if direction == "bidirectional" else 1
    sizes = {"w": (GATES[kind] * HIDDEN, INPUT), "r": (GATES[kind] * HIDDEN, HIDDEN), "b": (2 * GATES[kind] * HIDDEN,)}
    sizes |= {"h": (BATCH, HIDDEN), "c": (BATCH, HIDDEN), "p": (3 * HIDDEN,)}
    constants = {name: random.normal(size=(directions, *size)).astype(np.float32) for name, size in sizes.items()}
    last = {"LSTM": ["h_last", "c_last"]}.get(kind, ["h_last"])
    states = ["h", "c"][: len(last)] + (["p"] if peepholes else [])
    node = helper.make_node(
        kind, ["x", "w", "r", "b", ends, *states], ["y", *last], hidden_size=HIDDEN, direction=direction, **attributes
    )
    outputs = {"y": [length, directions, BATCH, HIDDEN]} | {name: [directions, BATCH, HIDDEN] for name in last}
    used = {name: constants[name] for name in ["w", "r", "b", *states]}
    if ends:
        used |= {"known": np.asarray([STEPS, 2], dtype=np.int32), "none": np.float32(0)}
    computing = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "none"], ["zero"]),
        helper.make_node("Cast", ["zero"], ["added"], to=TensorProto.INT32),
        helper.make_node("Add", ["known", "added"], ["computed"]),
    ]
    return save(path, [*(computing if ends == "computed" else []), node], used, [length, BATCH, INPUT], outputs)


def snr(file: str, tmp_path: Path, shape: list[Any], **parts: Any) -> float:
    return worst_snr(spec_of(file, **({"input": {"x": {"kind": "tensor", "shape": shape}}} | parts)), tmp_path)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("LSTM", {}),
        ("GRU", {}),
        ("GRU", {"linear_before_reset": 1}),
        ("RNN", {}),
        ("RNN", {"activations": ["Relu"]}),
    ],
)
def test_recurrent_operators_in_every_direction(kind, attributes, direction, tmp_path):
    if direction == "bidirectional" and "activations" in attributes:
        attributes = {"activations": attributes["activations"] * 2}
    file = recurrent(tmp_path / "m.onnx", kind, direction, **attributes)
    # fp32, another order of sums over six steps
    assert snr(file, tmp_path, [STEPS, BATCH, INPUT]) > 100


@pytest.mark.parametrize("ends", ["known", "computed"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("kind", "attributes"), [("LSTM", {}), ("GRU", {"linear_before_reset": 1})])
def test_sequences_of_unlike_lengths(kind, attributes, direction, ends, tmp_path):
    file = recurrent(tmp_path / "m.onnx", kind, direction, ends=ends, **attributes)
    assert snr(file, tmp_path, [STEPS, BATCH, INPUT]) > 100


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_cells_that_gates_look_at(direction, tmp_path):
    file = recurrent(tmp_path / "m.onnx", "LSTM", direction, peepholes=True)
    assert snr(file, tmp_path, [STEPS, BATCH, INPUT]) > 100


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_length_that_the_app_chooses(kind, tmp_path):
    file = recurrent(tmp_path / "m.onnx", kind, "bidirectional", length="steps")
    assert snr(file, tmp_path, [{"min": 2, "max": 9, "default": 5}, BATCH, INPUT]) > 100


@pytest.mark.parametrize(
    ("attributes", "said"),
    [({"clip": 1.0}, "LSTM with clip"), ({"activations": ["Relu"] * 3}, "LSTM with activations Relu, Relu, Relu")],
)
def test_recurrent_operators_that_core_ml_does_not_have_are_told(attributes, said, tmp_path):
    file = recurrent(tmp_path / "m.onnx", "LSTM", "forward", **attributes)
    with pytest.raises(ConversionError, match=said):
        snr(file, tmp_path, [STEPS, BATCH, INPUT])


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (["x", "w", "r", "", "lengths"], "RNN with sequence lengths"),
        (["x", "w", "r", "", "lengths", "", "", "p"], "LSTM with peepholes"),
    ],
)
def test_a_recurrent_layer_that_core_ml_does_not_have_is_named(inputs, said, tmp_path):
    from onnx import helper

    random = np.random.default_rng(0)
    kind = said.split()[0]
    sizes = {"w": (1, GATES[kind] * HIDDEN, INPUT), "r": (1, GATES[kind] * HIDDEN, HIDDEN), "p": (1, 3 * HIDDEN)}
    constants: dict[str, Any] = {name: random.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    constants["lengths"] = np.asarray([STEPS, 2], dtype=np.int32)
    node = helper.make_node(kind, inputs, ["y"], name=f"/memory/{kind}", hidden_size=HIDDEN)
    used = {name: value for name, value in constants.items() if name in inputs}
    file = save(tmp_path / "m.onnx", [node], used, [STEPS, BATCH, INPUT], {"y": [STEPS, 1, BATCH, HIDDEN]})
    with pytest.raises(ConversionError, match=rf"'/memory/{kind}' .*{said}"):
        snr(file, tmp_path, [STEPS, BATCH, INPUT])


def test_a_loop_that_collects_what_its_rounds_give_is_named(tmp_path):
    import onnx
    from onnx import helper

    # given `for any number of rounds: v = v + v, and every v is kept`
    kind = onnx.TensorProto
    values = [helper.make_tensor_value_info(name, kind.FLOAT, [1, 4]) for name in ("v", "next", "kept")]
    body = helper.make_graph(
        [
            helper.make_node("Add", ["v", "v"], ["next"]),
            helper.make_node("Identity", ["next"], ["kept"]),
            helper.make_node("Identity", ["going"], ["still"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", kind.INT64, []),
            helper.make_tensor_value_info("going", kind.BOOL, []),
            values[0],
        ],
        [helper.make_tensor_value_info("still", kind.BOOL, []), *values[1:]],
    )
    count = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["rounds"], to=kind.INT64),
    ]
    loop = helper.make_node("Loop", ["rounds", "begin", "x"], ["y", "all"], name="/steps/Loop", body=body)
    constants = {"begin": np.asarray(True)}
    file = save(tmp_path / "m.onnx", [*count, loop], constants, [1, 4], {"y": [1, 4], "all": ["rounds", 1, 4]})
    with pytest.raises(ConversionError, match=r"'/steps/Loop' .*collects a result of every round"):
        snr(file, tmp_path, [1, 4])


@pytest.mark.parametrize("limit", [None, 2**63 - 1])
def test_a_loop_that_a_counter_ends_is_written_out(limit, tmp_path):
    from onnx import TensorProto, helper

    # given `while n < rows of x: v = tanh(v + x[n]); n = n + 1`, every v is kept, as tf2onnx writes layers of Keras
    def of(name: str, type: int, shape: list[int]) -> Any:
        return helper.make_tensor_value_info(name, type, shape)

    body = helper.make_graph(
        [
            helper.make_node("Gather", ["x", "n"], ["row"]),
            helper.make_node("Add", ["v", "row"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["next"]),
            helper.make_node("Identity", ["next"], ["kept"]),
            helper.make_node("Add", ["n", "one"], ["after"]),
            helper.make_node("Less", ["after", "rows"], ["still"]),
        ],
        "body",
        [
            of("round", TensorProto.INT64, []),
            of("going", TensorProto.BOOL, []),
            of("n", TensorProto.INT64, []),
            of("v", TensorProto.FLOAT, [4]),
        ],
        [
            of("still", TensorProto.BOOL, []),
            of("after", TensorProto.INT64, []),
            *(of(n, TensorProto.FLOAT, [4]) for n in ("next", "kept")),
        ],
    )
    constants = {"zero": np.asarray(0), "one": np.asarray(1), "axis": np.asarray(0), "v0": np.zeros(4, np.float32)}
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "axis"], ["rows"]),
        helper.make_node("Less", ["zero", "rows"], ["begin"]),
        helper.make_node(
            "Loop", ["" if limit is None else "limit", "begin", "zero", "v0"], ["m", "y", "all"], body=body
        ),
    ]
    if limit is not None:
        constants["limit"] = np.asarray(limit)
    file = save(tmp_path / "m.onnx", nodes, constants, [5, 4], {"y": [4], "all": [5, 4]})
    assert snr(file, tmp_path, [5, 4]) > 100


def branches(path: Path, condition: list[Any], constants: dict[str, Any]) -> str:
    """`x + 2` where the condition holds, else `x * 3`."""
    import onnx
    from onnx import helper

    def branch(operator: str, value: float) -> Any:
        node = helper.make_node(operator, ["x", "value"], ["out"])
        given = onnx.numpy_helper.from_array(np.float32(value), "value")
        out = helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [1, 4])
        return helper.make_graph([node], operator, [], [out], [given])

    choose = helper.make_node("If", ["wanted"], ["y"], then_branch=branch("Add", 2), else_branch=branch("Mul", 3))
    return save(path, [*condition, choose], constants, [1, 4], {"y": [1, 4]})


@pytest.mark.parametrize("wanted", [True, False])
def test_a_branch_whose_condition_is_known_leaves_no_branch(wanted, tmp_path):
    from coremltools.models.utils import load_spec

    file = branches(tmp_path / "m.onnx", [], {"wanted": np.asarray(wanted)})
    assert snr(file, tmp_path, [1, 4]) > 100
    assert "cond" not in str(load_spec(str(tmp_path / "m.mlpackage")))


def test_a_branch_that_a_value_decides(tmp_path):
    from onnx import helper

    condition = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["wanted"]),
    ]
    file = branches(tmp_path / "m.onnx", condition, {"zero": np.float32(0)})
    assert snr(file, tmp_path, [1, 4]) > 100  # of the eight samples some are above zero and some below


def test_a_loop_until_a_value_is_small(tmp_path):
    import onnx
    from onnx import helper

    # given `for 5 rounds, while max(v) > 0.5: v = v * 0.7 + 0.01`
    kind = onnx.TensorProto
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["v", "rate"], ["smaller"]),
            helper.make_node("Add", ["smaller", "little"], ["next"]),
            helper.make_node("ReduceMax", ["next"], ["largest"], keepdims=0),
            helper.make_node("Greater", ["largest", "enough"], ["still"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", kind.INT64, []),
            helper.make_tensor_value_info("going", kind.BOOL, []),
            helper.make_tensor_value_info("v", kind.FLOAT, [1, 4]),
        ],
        [
            helper.make_tensor_value_info("still", kind.BOOL, []),
            helper.make_tensor_value_info("next", kind.FLOAT, [1, 4]),
        ],
    )
    loop = helper.make_node("Loop", ["rounds", "begin", "x"], ["y"], body=body)
    values = {"rate": 0.7, "little": 0.01, "enough": 0.5}
    constants = {name: np.float32(value) for name, value in values.items()}
    constants |= {"rounds": np.int64(5), "begin": np.asarray(True)}
    file = save(tmp_path / "m.onnx", [loop], constants, [1, 4], {"y": [1, 4]})
    # when, then
    assert snr(file, tmp_path, [1, 4]) > 100
