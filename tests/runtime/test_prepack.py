"""Weights that the first prediction reorders: the same results before, after, and from several threads at once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it

from coreml_runtime import load, prepack
from coreml_runtime.binding import Known
from coreml_runtime.dtypes import PRECISIONS, Precision
from coreml_runtime.ops import constexpr
from coreml_runtime.ops.conv import conv
from coreml_runtime.ops.linear import linear
from tests.runtime.programs import save_program

RANDOM = np.random.default_rng(3)
CONV, LINEAR = (RANDOM.standard_normal(shape).astype(np.float32) / 16 for shape in ((32, 16, 3, 3), (64, 32)))
X = RANDOM.standard_normal((1, 16, 6, 6)).astype(np.float32)


def network(x: Any) -> Any:
    """A convolution and a linear layer, both large enough to be packed."""
    mean = mb.reduce_mean(x=mb.relu(x=mb.conv(x=x, weight=CONV)), axes=[2, 3])
    return mb.linear(x=mean, weight=LINEAR)


def expected() -> np.ndarray[Any, Any]:
    """The same in torch."""
    hidden = torch.nn.functional.conv2d(torch.from_numpy(X), torch.from_numpy(CONV)).relu().mean((2, 3))
    return (hidden @ torch.from_numpy(LINEAR).T).numpy()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("stored", ["fp32", "fp16"])
def test_the_first_and_the_second_prediction_agree(tmp_path: Path, stored: str, precision: Precision) -> None:
    # given
    model = load(save_program(tmp_path, network, {"x": (X.shape, "fp32")}, precision=stored), precision=precision)

    # when
    first, second = (model.predict({"x": X})["y0"] for _ in range(2))

    # then
    np.testing.assert_array_equal(first, second)
    limit = 1e-5 if stored == "fp32" else 3e-3  # half has steps of 1e-3; three roundings follow one another
    np.testing.assert_allclose(first, expected(), atol=limit * np.abs(expected()).max())


@pytest.mark.skipif(not prepack.available(), reason="this processor packs nothing")
def test_nothing_is_packed_before_it_is_needed_and_each_weight_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    calls: list[Any] = []
    original = prepack.Packer._float32

    def counted(packer: prepack.Packer, raw: torch.Tensor) -> torch.Tensor:
        calls.append(raw)
        return original(packer, raw)

    monkeypatch.setattr(prepack.Packer, "_float32", counted)
    model = load(save_program(tmp_path, network, {"x": (X.shape, "fp32")}))
    at_load = len(calls)
    results: list[np.ndarray[Any, Any]] = []

    # when
    threads = [threading.Thread(target=lambda: results.append(model.predict({"x": X})["y0"])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # then
    assert at_load == 0
    assert len(calls) == 2
    assert len(results) == 6
    assert all((result == results[0]).all() for result in results)


def test_a_large_compressed_weight_is_made_dense_by_the_first_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    data = RANDOM.integers(-128, 128, (512, 256)).astype(np.int8)
    scale = np.full((512, 1), 0.01, np.float32)
    x = RANDOM.standard_normal((1, 256)).astype(np.float32)
    calls: list[int] = []
    original = constexpr._dequantized

    def counted(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(constexpr, "_dequantized", counted)
    path = save_program(
        tmp_path,
        lambda x: mb.linear(x=x, weight=mb.constexpr_blockwise_shift_scale(data=data, scale=scale)),
        {"x": (x.shape, "fp32")},
        opset="ios18",
    )
    model = load(path)
    at_load = len(calls)

    # when
    first, second = (model.predict({"x": x})["y0"] for _ in range(2))

    # then
    assert (at_load, len(calls)) == ((0, 1) if prepack.available() else (1, 1))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, x @ (data * scale).T, rtol=0, atol=1e-4)  # 256 additions of numbers near 1


def late(type_: str, plain: Any, weight: torch.Tensor, **arguments: Any) -> prepack.ShapeSpecializedKernel:
    """An operation on inputs of any shape, packed by its first call."""
    packer = prepack.Packer(release=lambda: None)
    return prepack.ShapeSpecializedKernel(type_, plain, Known(weight.clone()), arguments, packer)


def test_a_weight_packed_for_one_shape_serves_others() -> None:
    # given a convolution and a product whose calls bring inputs of several shapes, the first of which packs
    weight, matrix, bias = torch.from_numpy(CONV), torch.from_numpy(LINEAR), torch.arange(64.0)
    convolve = late("conv", conv, weight, bias=None, strides=(2, 1), dilations=(1, 1), groups=1)
    multiply = late("linear", linear, matrix, bias=bias)
    with torch.inference_mode():
        for batch, size, pad in ((1, 6, 1), (3, 9, 2), (1, 30, 0), (1, 6, 1)):
            x = torch.randn(batch, 16, size, size + 1)
            # when
            found = convolve(x, pad_type="custom", pad=(pad, pad, pad, pad))
            # then it is torch's answer but for the order of sums
            expected = torch.nn.functional.conv2d(x, weight, None, (2, 1), pad)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        for shape in ((1, 32), (7, 32), (2, 3, 32), (32,), (0, 32)):
            rows = torch.randn(shape)
            torch.testing.assert_close(
                multiply(rows), torch.nn.functional.linear(rows, matrix, bias), rtol=1e-5, atol=1e-5
            )


@pytest.mark.skipif(not prepack.available(), reason="this processor packs nothing")
@pytest.mark.parametrize("shape", [(1, 31), (4, 33), (31,)])
def test_an_input_that_does_not_fit_a_packed_weight_is_refused(shape: tuple[int, ...]) -> None:
    # given a product whose weight was packed
    multiply = late("linear", linear, torch.from_numpy(LINEAR))
    multiply(torch.zeros(2, 32))
    # when, then
    with pytest.raises(RuntimeError, match=r"shape|size"):
        multiply(torch.zeros(shape))


def test_threads_share_the_packing_of_a_weight() -> None:
    # given a product that several threads call at once before it is packed
    multiply, x = late("linear", linear, torch.from_numpy(LINEAR)), torch.randn(5, 32)
    found: list[torch.Tensor] = []
    barrier = threading.Barrier(4)

    def call() -> None:
        barrier.wait()
        with torch.inference_mode():
            found.append(multiply(x))

    threads = [threading.Thread(target=call) for _ in range(4)]
    # when
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # then
    assert len(found) == 4
    for each in found:
        torch.testing.assert_close(each, x @ torch.from_numpy(LINEAR).T, rtol=1e-5, atol=1e-5)
