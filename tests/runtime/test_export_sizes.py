"""Sizes and numbers of turns that values of an input give stay what the values say, and draws stay draws."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder
from coremltools.models.utils import save_spec

import coreml_runtime as runtime
from coreml_runtime.export import Exported, export
from coreml_runtime.ops.padding import ceil_after, same_total
from coreml_runtime.ops.random import drawn_by_torch
from tests.runtime.programs import save_program

X = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


def run(exported: Exported, **given: Any) -> dict[str, np.ndarray]:
    """What the program gives for arrays by name."""
    found = exported.program.module()(*(torch.as_tensor(given[each.name]).to(each.dtype) for each in exported.inputs))
    return {name: value.numpy() for name, value in found.items()}


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """One program with an output for each operator whose size values give."""

    def build(x: Any, n: Any, shape: Any) -> Any:
        return (
            mb.tile(x=x, reps=n),
            mb.fill(shape=n, value=2.0),
            mb.range_1d(
                start=np.int32(1), end=mb.squeeze(x=mb.slice_by_size(x=n, begin=[0], size=[1])), step=np.int32(2)
            ),
            mb.reshape(x=x, shape=shape),
            mb.slice_by_index(x=x, begin=[3, 0], end=n, stride=[-1, 2], end_mask=[True, False]),
            mb.slice_by_size(x=x, begin=n, size=[-1, 1]),
            mb.random_normal(shape=n, name="noise"),
        )

    path = save_program(
        tmp_path_factory.mktemp("sized"), build,
        {"x": ((4, 6), "fp32"), "n": ((2,), "int32"), "shape": ((2,), "int32")},
    )  # fmt: skip
    return export(path)


@pytest.mark.parametrize(("n", "shape"), [([3, 2], [8, 3]), ([1, 5], [-1, 2]), ([2, 3], [1, 24])])
def test_values_give_sizes(sized: Exported, n: list[int], shape: list[int]) -> None:
    # when
    found = list(run(sized, x=X, n=n, shape=shape).values())

    # then
    expected = [
        np.tile(X, n), np.full(n, 2.0), np.arange(1, n[0], 2), X.reshape(shape), X[3::-1, 0 : n[1] : 2],
        X[n[0] :, n[1] : n[1] + 1],
    ]  # fmt: skip
    for one, other in zip(found, expected, strict=False):
        assert np.array_equal(one, other)
    assert found[-1].shape == tuple(n)


def test_a_program_says_what_other_formats_may_not_hold(sized: Exported) -> None:
    assert sized.needs.draws == ("noise",)
    assert sized.needs.sizing == ("n", "shape")
    assert len(sized.needs.sized) == 7
    assert sized.needs.loops == ()


def test_what_is_drawn_comes_from_the_generator_that_the_runtime_is_given(tmp_path: Path) -> None:
    # given a draw of each kind in half precision, beside one with a seed
    def build(x: Any) -> Any:
        drawn = [
            mb.random_uniform(shape=(2, 3), low=-1.0, high=1.0), mb.random_bernoulli(shape=(2, 3), prob=0.4),
            mb.random_categorical(x=x, size=3), mb.random_normal(shape=(2, 3), seed=5),
        ]  # fmt: skip
        return tuple(mb.add(x=each, y=0.0) for each in drawn)

    path = save_program(tmp_path, build, {"x": ((2, 4), "fp32")}, precision="fp16")
    exported, x = export(path), np.zeros((2, 4), np.float32)

    # when
    torch.manual_seed(3)
    found = run(exported, x=x)
    with drawn_by_torch():
        torch.manual_seed(3)
        expected = runtime.load(path, precision="native").predict({"x": x})
    again = run(exported, x=x)

    # then
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert [np.array_equal(again[name], found[name]) for name in expected] == [False, False, False, True]
    assert len(exported.needs.draws) == 3


def test_a_loop_of_known_turns_is_written_out_and_another_becomes_a_loop(tmp_path: Path) -> None:
    # given a loop in a loop, of which an input gives both numbers of turns, and one of three
    weight = np.eye(2, dtype=np.float32) * 2

    def counted(x: Any, turns: Any, step: Any) -> Any:
        return mb.while_loop(
            _cond=lambda i, _: mb.less(x=i, y=turns), _body=lambda i, a: (mb.add(x=i, y=np.int32(1)), step(a)),
            loop_vars=(np.int32(0), x),
        )[1]  # fmt: skip

    def build(x: Any, n: Any) -> Any:
        turns = mb.squeeze(x=n)
        doubled = counted(x, np.int32(3), lambda a: mb.add(x=a, y=a))
        return doubled, counted(
            x, turns, lambda a: counted(mb.linear(x=a, weight=weight), turns, lambda b: mb.add(x=b, y=x))
        )

    exported = export(save_program(tmp_path, build, {"x": ((1, 2), "fp32"), "n": ((1,), "int32")}))
    torch.export.save(exported.program, tmp_path / "m.pt2")
    module = torch.export.load(tmp_path / "m.pt2").module()

    # when, then
    x = torch.tensor([[1.0, -3.0]])
    for turns in (0, 1, 3):
        first, second = module(x, torch.tensor([turns], dtype=torch.int32)).values()
        expected = x
        for _ in range(turns):
            expected = 2 * expected + turns * x
        assert torch.equal(first, 8 * x)
        assert torch.equal(second, expected)
    assert (len(exported.needs.loops), exported.needs.sizing) == (1, ("n",))


def test_a_loop_that_changes_a_shape_is_refused_by_name(tmp_path: Path) -> None:
    # given
    def build(x: Any, n: Any) -> Any:
        turns = mb.squeeze(x=n)
        return mb.while_loop(
            _cond=lambda i, _: mb.less(x=i, y=turns),
            _body=lambda i, a: (mb.add(x=i, y=np.int32(1)), mb.concat(values=(a, a), axis=0)),
            loop_vars=(np.int32(0), x),
            name="grows",
        )[1]

    # when, then
    path = save_program(tmp_path, build, {"x": ((1, 2), "fp32"), "n": ((1,), "int32")})
    with pytest.raises(runtime.UnsupportedError, match=r"operator while_loop 'grows.*a turn changes a shape"):
        export(path)


def test_values_give_sizes_of_layers(tmp_path: Path) -> None:
    # given
    arrays = {"x": datatypes.Array(4, 6), "n": datatypes.Array(2), "row": datatypes.Array(1, 6)}
    outputs = ("tiled", "filled", "wide", "counted", "cut")
    network = NeuralNetworkBuilder(
        list(arrays.items()), [(name, None) for name in outputs], disable_rank5_shape_mapping=True
    )
    network.add_tile("tile", ["x", "n"], "tiled", reps=[])
    network.add_fill_dynamic("fill", "n", "filled", value=2.0)
    network.add_broadcast_to_dynamic("broadcast", ["row", "n"], "wide")
    network.add_slice_static(
        "first", "n", "end", begin_ids=[0], end_ids=[1], strides=[1], begin_masks=[False], end_masks=[False]
    )
    network.add_range_dynamic("range", ["end"], "counted", start=0.0, step=1.0)
    no = [False] * 2
    network.add_slice_dynamic("slice", ["x", "n"], "cut", end_ids=[4, 6], strides=[1, 2], begin_masks=no, end_masks=no)
    save_spec(network.spec, str(tmp_path / "m.mlmodel"))

    # when
    exported = export(tmp_path / "m.mlmodel")

    # then
    for n in ([3, 1], [2, 6]):
        found = run(exported, x=X, n=n, row=X[:1])
        expected = (
            np.tile(X, n), np.full(n, 2.0), np.broadcast_to(X[:1], (n[0], 6)), np.arange(n[0]),
            X[n[0] : 4, n[1] : 6 : 2],
        )  # fmt: skip
        for name, value in zip(outputs, expected, strict=True):
            assert np.array_equal(found[name], value), name
    with pytest.raises(RuntimeError):  # a row of 6 is neither 6 nor 1 wide
        run(exported, x=X, n=[3, 2], row=X[:1])


def test_a_draw_by_a_seed_of_a_size_that_an_input_gives_is_refused(tmp_path: Path) -> None:
    # given
    network = NeuralNetworkBuilder([("n", datatypes.Array(2))], [("y", None)], disable_rank5_shape_mapping=True)
    network.add_random_normal_dynamic("noise", ["n"], "y", seed=5)
    save_spec(network.spec, str(tmp_path / "m.mlmodel"))

    # when, then
    with pytest.raises(
        runtime.UnsupportedError, match=r"^layer randomNormalDynamic 'noise' cannot be exported: it draws"
    ):
        export(tmp_path / "m.mlmodel")


@pytest.mark.filterwarnings("ignore")  # what coremltools and torch say of tracing
def test_what_is_padded_by_a_size_stays_open_for_odd_and_even_sizes(tmp_path: Path) -> None:
    # given windows that end beyond the input, for some sizes
    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            pool = torch.nn.functional
            return (
                pool.max_pool2d(x, 3, 2, 1, ceil_mode=True),
                pool.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
                pool.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False),
            )

    net, size = Net().eval(), ct.RangeDim(7, 40, 16)
    traced = torch.jit.trace(net, torch.rand(1, 2, 16, 16))  # type: ignore[no-untyped-call] # torch has no annotation here
    model = ct.convert(
        traced, inputs=[ct.TensorType("x", (1, 2, size, 16))], convert_to="mlprogram", skip_model_load=True,
        compute_precision=ct.precision.FLOAT32, minimum_deployment_target=ct.target.iOS17,
    )  # fmt: skip
    model.save(str(tmp_path / "m.mlpackage"))

    # when
    exported = export(tmp_path / "m.mlpackage")

    # then
    assert exported.inputs[0].ranges == {2: (7, 40)}
    module = exported.program.module()
    for height in (7, 8, 9, 10, 33):
        x = torch.rand(1, 2, height, 16)
        for found, expected in zip(module(x).values(), net(x), strict=True):
            assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("reach", [1, 2, 3, 5])
def test_same_padding_is_what_its_formula_says(reach: int) -> None:
    for size in range(1, 12):
        for stride in (1, 2, 3, 4):
            expected = max((-(-size // stride) - 1) * stride + reach - size, 0)
            assert same_total(size, stride, reach) == expected


@pytest.mark.parametrize("extent", [1, 2, 3, 5])
def test_ceil_mode_pads_up_to_the_last_window_that_begins_in_the_input(extent: int) -> None:
    for size, before, after, stride in itertools.product(range(5, 12), (0, 1), (0, 1, 2), (1, 2, 3, 4)):
        windows = math.ceil((size + before + after - extent) / stride) + 1
        if (windows - 1) * stride >= size + before:
            windows -= 1
        assert size + before + ceil_after(size, before, after, extent, stride) == (windows - 1) * stride + extent
