"""Weights that the first prediction reorders: the same results before, after, and from several threads at once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it

from builder.runtime import load, prepack
from builder.runtime.dtypes import PRECISIONS, Precision
from builder.runtime.ops import constexpr
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
