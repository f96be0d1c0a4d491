"""Results written over what nobody reads any more, activations inside convolutions, and channels-last memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it

from coreml_runtime import load, packed, prepack
from coreml_runtime.in_place import APART, IN_PLACE
from coreml_runtime.mlprogram import ProgramNetwork
from coreml_runtime.ops.activation import thresholded_relu
from tests.runtime.programs import save_program

RANDOM = np.random.default_rng(7)
SHAPE = (1, 8, 12, 10)
X = RANDOM.standard_normal(SHAPE).astype(np.float32) * 3
SPATIAL, DEPTHWISE, PIXEL = (
    RANDOM.standard_normal(shape).astype(np.float32) / 4 for shape in ((16, 8, 3, 3), (16, 1, 3, 3), (8, 16, 1, 1))
)
ARGUMENTS: dict[str, dict[str, Any]] = {
    "clip": {"alpha": -1.0, "beta": 0.7},
    "elu": {"alpha": 0.5},
    "leaky_relu": {"alpha": 0.1},
    "linear_activation": {"alpha": 0.3, "beta": -0.2},
    "sigmoid_hard": {"alpha": 0.2, "beta": 0.4},
    "thresholded_relu": {"alpha": 0.3},
    "softmax": {"axis": -1},
}
CASES = [(kernel, name, twin) for kernel, twins in IN_PLACE.items() for name, twin in twins.items()]


@pytest.mark.parametrize(("kernel", "name", "twin"), CASES, ids=[f"{k.__name__}-{n}" for k, n, _ in CASES])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_in_place_computes_the_same_bits_in_the_memory_of_its_argument(
    kernel: Any, name: str, twin: Any, layout: torch.memory_format
) -> None:
    # given values with infinities and NaN, and the other argument where there is one
    x = torch.from_numpy(np.concatenate([X.ravel()[:-4], np.float32([np.nan, np.inf, -np.inf, 0.3])]).reshape(SHAPE))
    x = x.contiguous(memory_format=layout)
    y = torch.from_numpy(RANDOM.standard_normal(SHAPE).astype(np.float32))
    given = {"x": x, "y": y} if "y" in IN_PLACE[kernel] else {"x": x}
    known = ARGUMENTS.get(kernel.__name__, {})

    # when
    expected = kernel(**given, **known)
    found = twin(**given, **known)

    # then
    assert torch.equal(found.nan_to_num(7.0), expected.nan_to_num(7.0))
    assert torch.equal(found.isnan(), expected.isnan())
    in_rows = layout is torch.contiguous_format or kernel.__name__ != "softmax"
    assert (found.data_ptr() == given[name].data_ptr()) == in_rows


@pytest.mark.parametrize(("kernel", "twin"), APART.items(), ids=[kernel.__name__ for kernel in APART])
@pytest.mark.parametrize("numbers", [(0.2, 0.4), (1 / 6, 0.5), (-0.0, -0.0), (1e-30, 3.0)])
def test_a_kernel_with_wrapped_numbers_computes_the_same_bits_apart(
    kernel: Any, twin: Any, numbers: tuple[float, float]
) -> None:
    # given values with infinities, NaN and both zeros
    special = np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0])
    x = torch.from_numpy(np.concatenate([X.ravel()[:-5], special]).reshape(SHAPE))
    before = x.clone()
    # when
    alpha, beta = numbers
    found, expected = twin(x=x, alpha=alpha, beta=beta), kernel(x=x, alpha=alpha, beta=beta)
    # then their bits are the same, and the argument has its own
    assert found.dtype is torch.float32
    assert torch.equal(found.view(torch.int32), expected.view(torch.int32))
    assert torch.equal(x.view(torch.int32), before.view(torch.int32))


def test_a_threshold_keeps_what_is_equal_to_it() -> None:
    x = torch.tensor([-3.0, np.nextafter(np.float32(-3), np.float32(-4)), 5.0, -4.0])
    assert thresholded_relu(x=x, alpha=-3.0).tolist() == [-3.0, 0.0, 5.0, 0.0]
    assert thresholded_relu(x=x.half(), alpha=-3.0).tolist() == [-3.0, -3.0, 5.0, 0.0]


def network(x: Any) -> Any:
    """Activations behind convolutions; values that are read twice, through a view, in a loop, and by a caller."""
    first = mb.conv(x=x, weight=SPATIAL, pad_type="same", name="first")
    swish = mb.silu(x=first, name="swish")
    depth = mb.conv(x=swish, weight=DEPTHWISE, groups=16, pad_type="same", name="depth")
    clipped = mb.clip(x=depth, alpha=0.0, beta=1.1, name="clipped")
    pixel = mb.conv(x=clipped, weight=PIXEL, name="pixel")
    gate = mb.sigmoid(x=pixel, name="gate")
    twice = mb.add(x=pixel, y=gate, name="twice")
    view = mb.reshape(x=twice, shape=(8, 120), name="view")
    squashed = mb.tanh(x=twice, name="squashed")
    joined = mb.mul(x=mb.reshape(x=squashed, shape=(8, 120)), y=view, name="joined")
    start = mb.relu(x=joined, name="start")
    (_, looped) = mb.while_loop(
        _cond=lambda i, value: mb.less(x=i, y=3),
        _body=lambda i, value: (mb.add(x=i, y=1), mb.add(x=value, y=mb.tanh(x=start))),
        loop_vars=(np.int32(0), joined),
    )
    return mb.relu(x=x, name="of_input"), looped, mb.softmax(x=mb.mul(x=twice, y=0.5), axis=-1)


def expected() -> list[torch.Tensor]:
    """The same in torch."""
    x, spatial, depthwise, pixel = map(torch.from_numpy, (X, SPATIAL, DEPTHWISE, PIXEL))
    first = torch.conv2d(x, spatial, padding=1)
    hidden = torch.conv2d(torch.nn.functional.silu(first), depthwise, padding=1, groups=16).clamp(0, 1.1)
    value = torch.conv2d(hidden, pixel)
    twice = value + value.sigmoid()
    joined = twice.tanh().reshape(8, 120) * twice.reshape(8, 120)
    looped = joined + 3 * joined.relu().tanh()
    return [x.relu(), looped, (twice * 0.5).softmax(-1)]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_both_ways_of_a_plan_agree_with_torch(tmp_path: Path, precision: str) -> None:
    # given
    model = load(save_program(tmp_path, network, {"x": (SHAPE, "fp32")}, opset="ios16", precision=precision))
    given = X.copy()

    # when: the fast way twice, and the one that computes every value
    first, second = (model.predict({"x": given}) for _ in range(2))
    careful = model.predict({"x": given}, intermediates="all")

    # then
    np.testing.assert_array_equal(given, X)
    limit = 1e-5 if precision == "fp32" else 3e-2  # half has steps of 1e-3; some twenty roundings follow one another
    for name, truth in zip(model.outputs, expected(), strict=True):
        np.testing.assert_array_equal(first[name], second[name])
        if precision == "fp16":  # nothing moves into a convolution where a rounding comes between
            np.testing.assert_array_equal(first[name], careful[name])
        np.testing.assert_allclose(first[name], careful[name], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(first[name], truth.numpy(), rtol=limit, atol=limit)

    if precision == "fp32":  # then the values in between are those of their names
        swish = torch.nn.functional.silu(torch.from_numpy(careful["first"]))
        np.testing.assert_allclose(careful["swish"], swish, atol=limit)
        np.testing.assert_array_equal(careful["clipped"], careful["depth"].clip(0, np.float32(1.1)))


def test_an_activation_behind_a_convolution_keeps_nan(tmp_path: Path) -> None:
    # given a model whose input is NaN at one place
    path = save_program(
        tmp_path,
        lambda x: (
            mb.relu(x=mb.conv(x=x, weight=SPATIAL)),
            mb.clip(x=mb.conv(x=x, weight=SPATIAL), alpha=0.0, beta=6.0),
            mb.silu(x=mb.conv(x=x, weight=SPATIAL)),
        ),
        {"x": (SHAPE, "fp32")},
    )
    x = X.copy()
    x[0, 0, 5, 5] = np.nan
    # when
    found = load(path).predict({"x": x})
    # then so are the nine places around it, in each channel
    assert [int(np.isnan(value).sum()) for value in found.values()] == [9 * 16] * 3


@pytest.mark.skipif(not prepack.available(), reason="this processor packs nothing")
def test_the_fast_way_is_taken(tmp_path: Path) -> None:
    # given
    model = load(save_program(tmp_path, network, {"x": (SHAPE, "fp32")}, opset="ios16"))
    assert isinstance(model.network, ProgramNetwork)
    # when
    fast = {step.type for step in model.network.plan.block.steps if step.fast is not step.run}
    # then these do the next one's work, have it done, or write over their argument
    assert {"conv", "silu", "clip", "add", "softmax"} <= fast
    assert packed.ACTIVATIONS.keys().isdisjoint({"relu", "clip", "gelu"})
