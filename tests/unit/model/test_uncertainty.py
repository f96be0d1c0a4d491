"""The original's other answers differ by its own rounding, and by nothing else."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from builder.analysis.costs.values import Outlines
from builder.model.selections import Selections
from builder.model.sources.onnx import OnnxModule
from builder.model.uncertainty import Uncertainty

X = torch.linspace(0.5, 2.0, 64)


class Cancels(torch.nn.Module):
    """Loses all but three digits in float32: the unit in the last place of 1e4 is 1e-3."""

    def forward(self, x):
        return ((x + 1e4) - 1e4,)


def differences(module, x=X, states=None, samples=1, index=0):
    answers = Uncertainty(module, [(x,)] * samples, states or {})(index)
    return [float((answer[0] - x).abs().max()) for answer in answers]


def test_float64_shows_what_float32_lost():
    moved, double = differences(Cancels())
    assert double < 1e-9
    (own,) = Cancels()(X)
    assert 1e-5 < float((own - X).abs().max()) < 1e-3
    assert moved < 2e-3


def test_a_module_that_names_a_dtype_has_its_inputs_moved_alone():
    class Named(torch.nn.Module):
        def forward(self, x):
            return (torch.nn.functional.linear(x, torch.eye(64, dtype=torch.float32)),)

    (moved,) = differences(Named())
    assert 0 < moved <= float(torch.finfo(torch.float32).eps)


def test_further_answers_round_inputs_and_weights_to_half_precision():
    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([1 + 2**-13, 1e-9, 1e6]))

        def forward(self, x):
            return x * 1, self.weight * 1

    x = torch.tensor([1 + 2**-13, 3.0, 3.0])
    values, weights = zip(*Uncertainty(Layer(), [(x,)], {}, half=True).further(0), strict=True)
    assert torch.equal(values[0], torch.tensor([1.0, 3.0, 3.0]))
    assert [value.argmax().item() for value in values[1:3]] == [2, 1]  # the last of what ties, and the first again
    assert all(((value - x).abs() <= 2**-10 * x.abs()).all() for value in values)
    changed = [weight for weight in weights if not torch.equal(weight, weights[0])]
    assert len(changed) == 1
    assert torch.equal(changed[0], torch.tensor([1.0, 1e-9, 1e6]))  # what half does not hold stays as it is


def test_weights_of_an_onnx_graph_are_rounded(tmp_path):
    onnx = pytest.importorskip("onnx")
    text = "g (float[3] x) => (float[3] y) <float[3] w = {1.0001, 2.0, 3.0}, float e = {0.0001}>"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> {text} {{ p = Mul(x, w) y = Add(p, e) }}'
    )
    whole = OnnxModule(model, ["x"])
    ones = torch.ones(3)
    torch.testing.assert_close(whole(ones)["y"], torch.tensor([1.0002, 2.0001, 3.0001]))
    rounded = whole.with_weights(lambda weights: weights.half().float())
    torch.testing.assert_close(rounded(ones)["y"], torch.tensor([1.0001, 2.0001, 3.0001]))
    torch.testing.assert_close(whole(ones)["y"], torch.tensor([1.0002, 2.0001, 3.0001]))


def test_limits_of_a_dtype_are_those_of_float32():
    class Clamped(torch.nn.Module):
        def forward(self, x):
            return (torch.log((x * 0).clamp(min=torch.finfo(x.dtype).eps)),)

    (expected,) = Clamped()(X)
    answers = Uncertainty(Clamped(), [(X,)], {})(0)
    assert len(answers) == 2
    for (answer,) in answers:
        torch.testing.assert_close(answer.float(), expected)
    assert torch.finfo(torch.float64).bits == 64
    assert torch.get_default_dtype() == torch.float32


def test_states_begin_as_given_and_are_left_as_they_were():
    class Counts(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", torch.zeros(64))

        def forward(self, x):
            self.total.add_(x)
            return (self.total.clone(),)

    module = Counts()
    module.total.fill_(7.0)
    answers = Uncertainty(module, [(X,)] * 3, {"total": torch.full((64,), 1.0)})(2)
    assert len(answers) == 2
    for (answer,) in answers:
        torch.testing.assert_close(answer.float(), 1.0 + 3 * X)
    assert bool((module.total == 7.0).all())


def test_integers_stay_as_they_are():
    ids = torch.arange(4)
    for (answer,) in Uncertainty(_Table(), [(ids,)], {})(0):
        torch.testing.assert_close(answer.float(), torch.arange(4.0) * 2)


class _Table(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.arange(4.0) * 2)

    def forward(self, ids):
        return (self.table[ids],)


def test_a_graph_is_run_without_optimisations():
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    big = helper.make_tensor("big", kind, [1], [1e4])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "big"], ["y"]), helper.make_node("Sub", ["y", "big"], ["z"])],
        "g",
        [helper.make_tensor_value_info("x", kind, [64])],
        [helper.make_tensor_value_info("z", kind, [64])],
        [big],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    class Tuple(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = OnnxModule(model, ["x"], ["z"])

        def forward(self, x):
            return (self.model(x)["z"],)

    moved, plain, _ = Uncertainty(Tuple(), [(X,)], {})(0)
    (own,) = Tuple()(X)
    torch.testing.assert_close(plain[0], own, rtol=0, atol=1e-3)
    torch.testing.assert_close(moved[0], own, rtol=0, atol=2e-3)


def test_modes_of_ours_do_not_bring_in_torchs_compiler():
    # given all classes of ours through which operators pass; torch wraps what is to be skipped, and then imports it
    ours = [mode for mode in TorchDispatchMode.__subclasses__() if mode.__module__.startswith("builder.")]
    assert {Outlines, Selections} <= set(ours)
    assert not [mode for mode in ours if hasattr(mode.__torch_dispatch__, "__wrapped__")]


def test_a_graph_is_run_in_float64_with_constants_of_every_form():
    onnx = pytest.importorskip("onnx")
    # given a sum that loses all but three digits in float32, zeros, constants and casts
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]> net (float[64] x) => (float[64] y)
        <float big = {10000.0}> {
            shape = Shape(x)
            zeros = ConstantOfShape(shape)
            one = Constant<value_float = 1.0>()
            many = Constant<value_floats = [1.0]>()
            a = Add(x, big)
            b = Sub(a, big)
            c = Mul(b, one)
            d = Mul(c, many)
            e = Add(d, zeros)
            ids = Cast<to = 7>(e)
            f = Cast<to = 1>(ids)
            g = Mul(f, zeros)
            y = Add(e, g)
        }"""
    )
    module = OnnxModule(model, ["x"])

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            return (self.inner(x)["y"],)

    # then
    moved, plain, double = differences(Wrapped())
    assert double < 1e-9
    assert 1e-5 < plain < 1e-3
    assert moved < 2e-3


def test_what_a_graph_takes_of_two_scores_that_nearly_tie_is_found_by_its_weights():
    onnx = pytest.importorskip("onnx")
    # given the best of two rows of a table by ids, which have no rounding: a tie in half precision, and none
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]> net (int64[2] x) => (int64[2] y)
        <float[2, 2] table = {0.3, 0.30001, 0.2, 0.5}> {
            rows = Gather<axis = 0>(table, x)
            y = ArgMax<axis = 1, keepdims = 0>(rows)
        }"""
    )
    module = OnnxModule(model, ["x"])

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            return (self.inner(x)["y"],)

    sample = (torch.tensor([0, 1]),)
    # then the first row's best is either, and the second's is not moved
    answers = [answer[0].tolist() for answer in Uncertainty(Wrapped(), [sample], {}, half=True).further(0)]
    assert [0, 1] in answers
    assert all(second == 1 for _, second in answers)
    assert [0, 1] not in [answer[0].tolist() for answer in Uncertainty(Wrapped(), [sample], {}).further(0)]
