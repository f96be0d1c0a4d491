"""Quantisation of activations against coremltools' own definition."""

from __future__ import annotations

import pytest
import torch

from coreml_runtime.ops.quantization import dequantize, quantize


@pytest.mark.parametrize(("dtype", "lowest", "highest"), [("int8", -128, 127), ("uint8", 0, 255)])
def test_quantize_rounds_shifts_and_clips(dtype: str, lowest: int, highest: int) -> None:
    # given
    x = torch.tensor([[-1000.0, 0.9, 1000.0], [2.4, -2.6, 0.0]])

    # when
    result = quantize(
        input_=x, scale=torch.tensor(2.0), output_dtype=dtype, zero_point=torch.tensor(10, dtype=torch.int8)
    )

    # then
    assert result.tolist() == [[lowest, 10, highest], [11, 9, 10]]
    assert str(result.dtype) == f"torch.{dtype}"


def test_vectors_act_along_their_axis() -> None:
    # given
    x = torch.tensor([[10, 20], [30, 40]], dtype=torch.int8)
    scale, zero = torch.tensor([1.0, 0.5]), torch.tensor([0, 20], dtype=torch.int8)

    # when
    rows = dequantize(input_=x, scale=scale, zero_point=zero, axis=0)
    columns = dequantize(input_=x, scale=scale, zero_point=zero, axis=-1)

    # then
    assert rows.tolist() == [[10.0, 20.0], [5.0, 10.0]]
    assert columns.tolist() == [[10.0, 0.0], [30.0, 10.0]]


def test_a_full_range_zero_point_does_not_overflow() -> None:
    # given, when
    result = dequantize(
        input_=torch.tensor([-128, 127], dtype=torch.int8), scale=torch.tensor(1.0),
        zero_point=torch.tensor(127, dtype=torch.int8),
    )  # fmt: skip

    # then
    assert result.tolist() == [-255.0, 0.0]
