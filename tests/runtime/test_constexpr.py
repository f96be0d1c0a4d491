"""Weight decompression against coremltools' own numpy definitions."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil.ops.defs import iOS16, iOS18
from coremltools.optimize import _utils as reference

from coreml_runtime.bits import unpack_bits
from coreml_runtime.errors import ModelError
from coreml_runtime.ops import constexpr
from coreml_runtime.ops.context import TensorType
from tests.runtime.contexts import make_context

FP32, FP16 = (make_context(output=TensorType(dtype=dtype, shape=())) for dtype in ("fp32", "fp16"))
RANDOM = np.random.default_rng(0)


def tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
@pytest.mark.parametrize("shape", [(5,), (3, 7), (600, 512)])
def test_packed_tables_of_ios16(bits: int, shape: tuple[int, ...]) -> None:
    # given: the largest shape goes through the table of pairs
    lut = RANDOM.normal(size=2**bits).astype(np.float32)
    indices = RANDOM.integers(0, 2**bits, np.prod(shape)).astype(np.uint8)
    packed = reference.pack_elements_into_bits(indices, bits)

    # when
    dense = constexpr.constexpr_lut_to_dense(indices=tensor(packed), lut=tensor(lut), shape=shape)

    # then
    expected = iOS16.constexpr_lut_to_dense.decompress(lut, packed, shape)
    np.testing.assert_array_equal(dense.numpy(), expected)


@pytest.mark.parametrize(
    ("groups", "vector", "axis"),
    [((1, 1), 1, None), ((4, 1), 1, None), ((2, 3), 1, None), ((1, 1), 2, 0), ((4, 1), 3, 1), ((2, 3), 2, -1)],
)
@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_grouped_and_vector_tables_of_ios18(
    groups: tuple[int, int], vector: int, axis: int | None, dtype: type[np.generic]
) -> None:
    # given
    indices = RANDOM.integers(0, 8, (8, 6)).astype(np.uint8)
    lut = (RANDOM.normal(size=(*groups, 8, vector)) * 50).astype(dtype)

    # when
    dense = constexpr.constexpr_lut_to_dense(indices=tensor(indices), lut=tensor(lut), vector_axis=axis)

    # then
    np.testing.assert_array_equal(dense.numpy(), iOS18.constexpr_lut_to_dense.decompress(indices, lut, axis))


@pytest.mark.parametrize("shape", [(5,), (3, 50), (64, 65)])
def test_sparse_weights_of_ios16_and_ios18(shape: tuple[int, ...]) -> None:
    # given
    mask = RANDOM.random(shape) < 0.4
    values = RANDOM.normal(size=int(mask.sum())).astype(np.float32)
    packed = np.packbits(mask.reshape(-1), bitorder="little")

    # when
    old = constexpr.constexpr_sparse_to_dense(nonzero_data=tensor(values), mask=tensor(packed), shape=shape)
    new = constexpr.constexpr_sparse_to_dense(nonzero_data=tensor(values), mask=tensor(mask.astype(np.uint8)))

    # then
    expected = np.zeros(shape, np.float32)
    expected[mask] = values
    np.testing.assert_array_equal(old.numpy(), expected)
    np.testing.assert_array_equal(new.numpy(), expected)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_affine_weights_of_ios16(per_channel: bool, dtype: type[np.integer[Any]]) -> None:
    # given: large enough for several chunks
    limits = np.iinfo(dtype)
    data = RANDOM.integers(limits.min, limits.max + 1, (700, 30, 20)).astype(dtype)
    size = 30 if per_channel else ()
    scale = RANDOM.uniform(0.1, 1, size).astype(np.float32)
    zero = RANDOM.integers(limits.min, limits.max + 1, size).astype(dtype)

    # when
    dense = constexpr.constexpr_affine_dequantize(
        quantized_data=tensor(data), zero_point=tensor(zero), scale=tensor(scale), axis=1, context=FP32
    )

    # then
    expected = iOS16.constexpr_affine_dequantize.decompress(data, zero, scale, 1)
    np.testing.assert_allclose(dense.numpy(), expected, rtol=1e-6)  # one rounding of a product


@pytest.mark.parametrize("blocks", [(1, 1, 1), (6, 1, 1), (3, 1, 1), (2, 4, 1), (6, 4, 5), (1, 2, 5)])
@pytest.mark.parametrize("offset", [None, np.int8, np.float32])
@pytest.mark.parametrize("repeat", [1, 2000])
def test_blockwise_weights_of_ios18(blocks: tuple[int, ...], offset: type[np.generic] | None, repeat: int) -> None:
    # given: many rows are done in chunks that must keep to the blocks
    data = RANDOM.integers(-128, 128, (6 * repeat, 4, 5)).astype(np.int8)
    scale = RANDOM.uniform(0.1, 1, (blocks[0] * (repeat if blocks[0] == 6 else 1), *blocks[1:])).astype(np.float32)
    shift = None if offset is None else RANDOM.integers(-128, 128, scale.shape).astype(offset)

    # when
    dense = constexpr.constexpr_blockwise_shift_scale(
        data=tensor(data), scale=tensor(scale), offset=None if shift is None else tensor(shift), context=FP32
    )

    # then
    expected = iOS18.constexpr_blockwise_shift_scale.decompress(data, scale, shift)
    np.testing.assert_allclose(dense.numpy(), expected, rtol=1e-6)


def test_half_precision_weights_are_rounded_to_half() -> None:
    # given
    data, scale = torch.arange(-128, 128).to(torch.int8).view(2, 128), torch.tensor([[0.1], [0.3]]).half().float()

    # when
    dense = constexpr.constexpr_blockwise_shift_scale(data=data, scale=scale, context=FP16)

    # then
    assert torch.equal(dense, (data.float() * scale).half().float())
    assert dense.dtype is torch.float32


@pytest.mark.parametrize(("vector", "axis"), [(1, None), (2, 0), (3, 1)])
def test_sparse_tables_of_ios18(vector: int, axis: int | None) -> None:
    # given
    mask = (RANDOM.random((4, 6)) < 0.4).astype(np.uint8)
    indices = RANDOM.integers(0, 4, int(mask.sum())).astype(np.uint8)
    lut = RANDOM.normal(size=(2, 1, 4, vector)).astype(np.float32)

    # when
    ours = constexpr.constexpr_lut_to_sparse(
        indices_mask=tensor(mask), indices_nonzero_data=tensor(indices), lut=tensor(lut), vector_axis=axis
    )

    # then
    expected = iOS18.constexpr_lut_to_sparse.decompress(mask, indices, lut, axis)
    for result, wanted in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(result.numpy(), wanted)


def test_sparse_blockwise_weights_of_ios18() -> None:
    # given
    mask = (RANDOM.random((4, 6)) < 0.5).astype(np.uint8)
    values = RANDOM.integers(-8, 8, int(mask.sum())).astype(np.int8)
    scale, offset = RANDOM.uniform(0.1, 1, (4, 2)).astype(np.float32), RANDOM.integers(-8, 8, (4, 2)).astype(np.int8)

    # when
    ours = constexpr.constexpr_sparse_blockwise_shift_scale(
        data_mask=tensor(mask), nonzero_data=tensor(values), scale=tensor(scale), offset=tensor(offset), context=FP32
    )

    # then
    expected = iOS18.constexpr_sparse_blockwise_shift_scale.decompress(mask, values, scale, offset)
    np.testing.assert_array_equal(ours[0].numpy(), expected[0])
    np.testing.assert_allclose(ours[1].numpy(), expected[1], rtol=1e-6)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_bits_are_unpacked_from_either_end_of_a_byte(bits: int, order: Literal["little", "big"]) -> None:
    # given
    values = RANDOM.integers(0, 2**bits, 37)
    places = range(bits) if order == "little" else reversed(range(bits))
    stream = [(int(value) >> place) & 1 for value, place in itertools.product(values, tuple(places))]

    # when
    unpacked = unpack_bits(np.packbits(stream, bitorder=order), bits, 37, most_significant_first=order == "big")

    # then
    assert unpacked.tolist() == values.tolist()


def test_parameters_that_do_not_fit_are_named() -> None:
    # given
    byte, value = torch.zeros(2, dtype=torch.uint8), torch.ones(2)

    # when, then
    with pytest.raises(ModelError, match="2 bytes of indices, where 100 of 1 bits"):
        constexpr.constexpr_lut_to_dense(indices=byte, lut=value, shape=(100,))
    with pytest.raises(ModelError, match="asked for entry 9"):
        constexpr.constexpr_lut_to_dense(indices=byte + 9, lut=torch.ones(1, 4, 1))
    with pytest.raises(ModelError, match="do not divide"):
        constexpr.constexpr_lut_to_dense(indices=byte, lut=torch.ones(3, 4, 1))
    with pytest.raises(ModelError, match="mask of 2 bytes for 1000000000000 elements"):
        constexpr.constexpr_sparse_to_dense(nonzero_data=value, mask=byte, shape=(10**12,))
    with pytest.raises(ModelError, match="sets 0 elements, 2 are stored"):
        constexpr.constexpr_sparse_to_dense(nonzero_data=value, mask=byte)
    with pytest.raises(ModelError, match="do not divide"):
        constexpr.constexpr_blockwise_shift_scale(data=byte, scale=torch.ones(3), context=FP32)
