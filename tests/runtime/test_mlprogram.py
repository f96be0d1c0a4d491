"""ML programs, built with coremltools and saved, loaded again and compared with torch and numpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it
from hypothesis import given, settings
from hypothesis import strategies as st

from coreml_runtime import InputError, PredictionError, load
from tests.runtime.programs import save_program

FP32 = 1e-5
"""Single precision: about 1e-7 for each of a few hundred additions, relative to the output's range."""

FP16 = 2e-3
"""Half has steps of 1e-3 between powers of two; two or three roundings follow one another."""

RANDOM = np.random.default_rng(7)


def array(*shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(shape).astype(np.float32)


W3 = array(8, 4, 3, 3)
W1 = array(6, 4, 5)
WT = array(4, 3, 3, 3)
WD = array(4, 1, 3, 3)
B8 = array(8)
LINEAR, LINEAR_BIAS = array(7, 5), array(7)
GAMMA, BETA = array(5), array(5)
MEAN, VARIANCE = array(4), np.abs(array(4)) + 1
F = torch.nn.functional

Case = tuple[tuple[int, ...], Callable[..., Any], Callable[[torch.Tensor], torch.Tensor]]
CASES: dict[str, Case] = {
    "conv_same": (
        (2, 4, 9, 8),
        lambda x: mb.conv(x=x, weight=W3, bias=B8, strides=[2, 2], pad_type="same"),
        lambda x: F.conv2d(F.pad(x, (0, 1, 1, 1)), torch.tensor(W3), torch.tensor(B8), 2),
    ),
    "conv_same_lower": (
        (2, 4, 9, 8),
        lambda x: mb.conv(x=x, weight=W3, strides=[2, 2], pad_type="same_lower"),
        lambda x: F.conv2d(F.pad(x, (1, 0, 1, 1)), torch.tensor(W3), None, 2),
    ),
    "conv_1d_custom_dilated": (
        (1, 4, 20),
        lambda x: mb.conv(x=x, weight=W1, pad_type="custom", pad=[3, 1], dilations=[2]),
        lambda x: F.conv1d(F.pad(x, (3, 1)), torch.tensor(W1), dilation=2),
    ),
    "conv_depthwise": (
        (1, 4, 8, 8),
        lambda x: mb.conv(x=x, weight=WD, groups=4, pad_type="custom", pad=[1, 1, 1, 1]),
        lambda x: F.conv2d(x, torch.tensor(WD), padding=1, groups=4),
    ),
    "conv_transpose": (
        (1, 4, 5, 6),
        lambda x: mb.conv_transpose(
            x=x, weight=WT, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], output_shape=[1, 3, 10, 12]
        ),
        lambda x: F.conv_transpose2d(x, torch.tensor(WT), stride=2, padding=1, output_padding=1),
    ),
    "linear": (
        (3, 2, 5),
        lambda x: mb.linear(x=x, weight=LINEAR, bias=LINEAR_BIAS),
        lambda x: F.linear(x, torch.tensor(LINEAR), torch.tensor(LINEAR_BIAS)),
    ),
    "einsum": (
        (2, 3, 4, 5),
        lambda x: mb.einsum(values=(x, mb.transpose(x=x, perm=[0, 3, 2, 1])), equation="nchw,nwhu->nchu"),
        lambda x: torch.einsum("nchw,nwhu->nchu", x, x.permute(0, 3, 2, 1)),
    ),
    "max_pool_ceil": (
        (1, 2, 7, 7),
        lambda x: mb.max_pool(
            x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], ceil_mode=True
        ),
        lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    ),
    "avg_pool_ceil": (
        (1, 2, 8, 8),
        lambda x: mb.avg_pool(
            x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], ceil_mode=True
        ),
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    ),
    "avg_pool_exclude": (
        (1, 2, 8, 8),
        lambda x: mb.avg_pool(
            x=x,
            kernel_sizes=[3, 3],
            strides=[2, 2],
            pad_type="custom",
            pad=[1, 1, 1, 1],
            exclude_padding_from_average=True,
        ),
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    ),
    "l2_pool": (
        (1, 2, 8, 8),
        lambda x: mb.l2_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid"),
        lambda x: F.lp_pool2d(x, 2.0, 2, 2),
    ),
    "batch_norm": (
        (2, 4, 3, 3),
        lambda x: mb.batch_norm(x=x, mean=MEAN, variance=VARIANCE, epsilon=1e-3),
        lambda x: F.batch_norm(x, torch.tensor(MEAN), torch.tensor(VARIANCE), eps=1e-3),
    ),
    "instance_norm": (
        (2, 5, 3, 4),
        lambda x: mb.instance_norm(x=x, gamma=GAMMA, beta=BETA, epsilon=1e-3),
        lambda x: F.instance_norm(x, weight=torch.tensor(GAMMA), bias=torch.tensor(BETA), eps=1e-3),
    ),
    "layer_norm_inner_axis": (
        (2, 5, 3),
        lambda x: mb.layer_norm(x=x, axes=[1], gamma=GAMMA, beta=BETA, epsilon=1e-3),
        lambda x: F.layer_norm(x.mT, (5,), torch.tensor(GAMMA), torch.tensor(BETA), 1e-3).mT,
    ),
    "l2_norm": (
        (2, 3, 4, 5),
        lambda x: mb.l2_norm(x=x, epsilon=1e-3),
        lambda x: x / torch.sqrt(x.square().sum((1, 2, 3), keepdim=True) + 1e-3),
    ),
    "local_response_norm": (
        (2, 6, 4, 5),
        lambda x: mb.local_response_norm(x=x, size=3, alpha=0.1, beta=0.75, k=1.5),
        lambda x: F.local_response_norm(x, 3, 0.1, 0.75, 1.5),
    ),
    "reshape_zero_from_the_right": (
        (2, 50),
        lambda x: mb.reshape(x=x, shape=[1, 0, -1, 0]),
        lambda x: x.reshape(1, 1, 2, 50),
    ),
    "slice_backwards": (
        (5, 6),
        lambda x: mb.slice_by_index(
            x=x, begin=[-1, 0], end=[0, 5], stride=[-2, 2], begin_mask=[False, True], end_mask=[True, False]
        ),
        lambda x: x.flip(0)[::2, 0:5:2],
    ),
    "slice_squeeze": (
        (5, 6),
        lambda x: mb.slice_by_index(x=x, begin=[-2, 1], end=[0, 4], squeeze_mask=[True, False]),
        lambda x: x[-2, 1:4],
    ),
    "concat_interleave": (
        (2, 3, 2),
        lambda x: mb.concat(values=(x, mb.mul(x=x, y=2.0)), axis=1, interleave=True),
        lambda x: torch.stack([x, 2 * x], 2).reshape(2, 6, 2),
    ),
    "pad_reflect": (
        (1, 2, 4, 5),
        lambda x: mb.pad(x=x, pad=[2, 1, 3, 2], mode="reflect"),
        lambda x: F.pad(x, (3, 2, 2, 1), mode="reflect"),
    ),
    "pad_replicate": (
        (1, 2, 4, 5),
        lambda x: mb.pad(x=x, pad=[2, 1, 3, 2], mode="replicate"),
        lambda x: F.pad(x, (3, 2, 2, 1), mode="replicate"),
    ),
    "gather_batch_dims": (
        (2, 3, 4),
        lambda x: mb.gather(x=x, indices=np.array([[0, -1], [3, 1]], np.int32), axis=2, batch_dims=1),
        lambda x: torch.stack([x[0][:, [0, 3]], x[1][:, [3, 1]]]),
    ),
    "gather_nd": (
        (2, 3, 4),
        lambda x: mb.gather_nd(x=x, indices=np.array([[0, 2], [1, -1]], np.int32)),
        lambda x: x[[0, 1], [2, 2]],
    ),
    "cumsum_exclusive_reverse": (
        (3, 4),
        lambda x: mb.cumsum(x=x, axis=1, exclusive=True, reverse=True),
        lambda x: x.flip(1).cumsum(1).flip(1) - x,
    ),
    "sliding_windows": (
        (2, 9, 3),
        lambda x: mb.sliding_windows(x=x, axis=1, size=4, stride=2),
        lambda x: torch.stack([x[:, i : i + 4] for i in (0, 2, 4)], 1),
    ),
    "space_to_depth": (
        (1, 2, 4, 6),
        lambda x: mb.depth_to_space(x=mb.space_to_depth(x=x, block_size=2), block_size=2),
        lambda x: x,
    ),
    "band_part": ((4, 5), lambda x: mb.band_part(x=x, lower=1, upper=0), lambda x: x.tril() - x.tril(-2)),
    "prelu": (
        (2, 4, 3, 2),
        lambda x: mb.prelu(x=x, alpha=MEAN),
        lambda x: F.prelu(x, torch.tensor(MEAN)),
    ),
    "gelu_tanh": (
        (2, 9),
        lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "reduce_log_sum_exp": (
        (2, 3, 4),
        lambda x: mb.reduce_log_sum_exp(x=x, axes=[0, -1], keep_dims=True),
        lambda x: x.logsumexp((0, 2), keepdim=True),
    ),
}


def largest_error(actual: np.ndarray[Any, Any], expected: torch.Tensor) -> float:
    """Relative to the range of what is expected; the shapes must be equal."""
    assert actual.shape == tuple(expected.shape)
    reference = expected.numpy()
    return float(np.abs(actual - reference).max() / np.abs(reference).max())


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Inputs and outputs of one saved program that holds every case, by precision: converting is what takes time."""
    names = list(CASES)
    inputs = {name: array(*shape) for name, (shape, _, _) in CASES.items()}

    def build(**arguments: Any) -> Any:
        return tuple(CASES[name][1](arguments[name]) for name in names)

    found = {}
    for precision in ("fp32", "fp16"):
        specs = {name: (shape, "fp32") for name, (shape, _, _) in CASES.items()}
        path = save_program(tmp_path_factory.mktemp(precision), build, specs, precision=precision)
        outputs = load(path).predict(inputs)
        found[precision] = (inputs, {name: outputs[f"y{i}"] for i, name in enumerate(names)})
    return found


@pytest.mark.parametrize(("precision", "limit"), [("fp32", FP32), ("fp16", FP16)])
@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_torch_computes(
    name: str, precision: str, limit: float, predicted: dict[str, tuple[dict[str, Any], dict[str, Any]]]
) -> None:
    # given: the operator in a saved program, and what it predicted
    inputs, outputs = predicted[precision]

    # when
    expected = CASES[name][2](torch.tensor(inputs[name]))

    # then
    assert largest_error(outputs[name], expected) < limit


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_slices_follow_numpy(data: st.DataObject) -> None:
    # given: any begin, end and stride
    from coreml_runtime.ops.tensor_transformation import slice_by_index, slice_update

    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple))
    bounds = st.integers(-7, 7)
    begin, end = (tuple(data.draw(bounds) for _ in shape) for _ in range(2))
    stride = tuple(data.draw(st.sampled_from([-3, -2, -1, 1, 2, 3])) for _ in shape)
    masks = tuple(tuple(data.draw(st.booleans()) for _ in shape) for _ in range(2))
    x = torch.arange(int(np.prod(shape))).reshape(shape)
    slices = tuple(
        slice(None if masks[0][i] else begin[i], None if masks[1][i] else end[i], stride[i]) for i in range(len(shape))
    )
    expected = x.numpy()[slices]

    # when
    keywords: dict[str, Any] = {
        "begin": begin, "end": end, "stride": stride, "begin_mask": masks[0], "end_mask": masks[1],
    }  # fmt: skip
    taken = slice_by_index(x=x, **keywords)
    updated = slice_update(x=x, update=-torch.tensor(expected.copy()), **keywords)

    # then: the slice is numpy's, and an update changes these elements and no other
    np.testing.assert_array_equal(taken.numpy(), expected)
    changed = x.numpy().copy()
    changed[slices] *= -1
    np.testing.assert_array_equal(updated.numpy(), changed)


@given(
    size=st.integers(1, 12), kernel=st.integers(1, 4), stride=st.integers(1, 3), before=st.integers(0, 2),
    after=st.integers(0, 2), ceil=st.booleans(), exclude=st.booleans(),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_average_pools_count_what_lies_inside(
    size: int, kernel: int, stride: int, before: int, after: int, ceil: bool, exclude: bool
) -> None:
    # given: a pool whose windows may overhang
    from coreml_runtime.ops.pool import avg_pool

    if size + before + after < kernel or before >= kernel or after >= kernel:
        return
    x = np.arange(1.0, size + 1)
    starts = range(-before, size + after, stride)
    starts = [
        s for s in starts if (s + kernel <= size + after) or (ceil and s < size and s - stride + kernel < size + after)
    ]
    expected = []
    for start in starts:
        inside = [x[i] for i in range(start, start + kernel) if 0 <= i < size]
        counted = sum(
            1 for i in range(start, start + kernel) if (0 <= i < size if exclude else -before <= i < size + after)
        )
        expected.append(sum(inside) / counted if counted else np.nan)

    # when
    result = avg_pool(
        x=torch.tensor(x)[None, None], kernel_sizes=(kernel,), strides=(stride,), pad_type="custom",
        pad=(before, after), exclude_padding_from_average=exclude, ceil_mode=ceil,
    )  # fmt: skip

    # then: double precision, sums of a few small numbers
    np.testing.assert_allclose(result[0, 0].numpy(), expected, rtol=1e-12)


def test_half_precision_rounds_after_each_operator_and_fast_does_not(tmp_path: Path) -> None:
    # given: two additions that each lose a bit in half precision
    path = save_program(
        tmp_path,
        lambda x: mb.add(x=mb.add(x=x, y=np.float16(1)), y=np.float16(-1)),
        {"x": ((1,), "fp16")},
        opset="ios16",
    )
    x = np.array([2**-12], np.float32)

    # when
    half, fast, native = (load(path, precision=each).predict({"x": x})["y0"] for each in ("half", "fast", "native"))

    # then
    assert half[0] == native[0] == 0
    assert fast[0] == 2**-12


def test_wrong_inputs_are_refused_and_say_what_was_expected(tmp_path: Path) -> None:
    # given
    path = save_program(tmp_path, lambda x: mb.relu(x=x), {"x": ((2, 3), "fp32")})
    model = load(path)

    for wrong, message in (
        ({}, "missing: x"),
        ({"x": array(2, 3), "z": 1}, "unknown: z"),
        ({"x": array(3, 2)}, r"\(3, 2\), the model expects \(2, 3\)"),
        ({"x": ["a", "b"]}, "fp32 of shape"),
        ({"x": None}, "None"),
    ):
        # when, then
        with pytest.raises(InputError, match=message):
            model.predict(wrong)


def test_outputs_never_share_memory_with_inputs(tmp_path: Path) -> None:
    # given: a program that returns its input
    model = load(save_program(tmp_path, lambda x: mb.identity(x=x), {"x": ((3,), "fp32")}))
    x = array(3)

    # when
    model.predict({"x": x})["y0"][:] = 0

    # then
    assert (x != 0).all()


def test_intermediates_by_name_and_all(tmp_path: Path) -> None:
    # given
    path = save_program(
        tmp_path, lambda x: mb.exp(x=mb.add(x=x, y=np.float32(1), name="sum"), name="power"), {"x": ((2,), "fp32")}
    )
    model, x = load(path), array(2)

    # when
    one, everything = model.predict({"x": x}, intermediates=["sum"]), model.predict({"x": x}, intermediates="all")

    # then
    np.testing.assert_allclose(one["sum"], x + 1)
    assert set(one) == {"sum", "y0"}
    assert {"x", "sum", "y0"} <= set(everything)
    with pytest.raises(InputError, match="no_such_name"):
        model.predict({"x": x}, intermediates=["no_such_name"])


def test_a_kernel_that_fails_names_its_operator(tmp_path: Path) -> None:
    # given: a shape that only the prediction reveals to be wrong
    path = save_program(
        tmp_path, lambda x, n: mb.reshape(x=x, shape=n, name="bad"), {"x": ((6,), "fp32"), "n": ((2,), "int32")}
    )
    model = load(path)

    # when, then
    assert model.predict({"x": array(6), "n": np.array([2, 3])})["y0"].shape == (2, 3)
    with pytest.raises(PredictionError, match="operator reshape"):
        model.predict({"x": array(6), "n": np.array([4, 3])})
