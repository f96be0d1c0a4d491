"""Each method at each granularity: the artifact computes with the weights that the method's formula gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builder.backends.coreml.compress import compress
from builder.progress import Silent
from tests.unit.compression.small_net import compressed, dense_weights, executed, plain_weights
from tests.unit.stages.small_builds import convert_module, make_spec

OUTPUT_AXIS = {"conv": 0, "conv_transpose": 1, "linear": 0, "matmul": 0}
INPUT_AXIS = {"conv": 1, "conv_transpose": 0, "linear": 1, "matmul": 1}


def grouped(weight: np.ndarray, sizes: list[int]) -> tuple[np.ndarray, tuple[int, ...]]:
    """`weight` with each axis split into (groups, size), and the axes within groups; size 0 is the whole axis."""
    shape = [part for n, size in zip(weight.shape, sizes, strict=True) for part in (n // (size or n), size or n)]
    return weight.reshape(shape), tuple(range(1, 2 * weight.ndim, 2))


def quantized(weight: np.ndarray, dtype: str, mode: str, sizes: list[int]) -> np.ndarray:
    """Dense weights after rounding to integers with one scale a group (uniform affine quantization)."""
    bits, signed = int(dtype.strip("uint")), not dtype.startswith("u")
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    blocks, within = grouped(weight, sizes)
    least, most = blocks.min(within, keepdims=True), blocks.max(within, keepdims=True)
    if mode == "linear_symmetric":
        low, high = (low + 1, high) if signed else (low, high - 1)
        most = np.maximum(abs(least), abs(most))
        least, zero = -most, np.float32(0 if signed else high // 2)
    else:
        least, most = np.minimum(least, 0), np.maximum(most, 0)
        zero = np.clip(np.round((low * most - high * least) / (most - least)), low, high)
    scale = (most - least) / (high - low)
    whole = np.clip(np.round(blocks / scale) + zero, low, high)
    return ((whole - zero) * scale).astype(np.float32).reshape(weight.shape)


def block_sizes(kind: str, weight: np.ndarray, granularity: str, size: int) -> list[int]:
    sizes = [0] * weight.ndim
    if granularity != "per_tensor":
        sizes[OUTPUT_AXIS[kind]] = 1
    if granularity == "per_block":
        sizes[INPUT_AXIS[kind]] = size
    return sizes


def assert_executed(model: Any, folder: Path) -> None:
    result, wanted = executed(model, folder)
    # the same fp32 sums in another order: a few units of the last place of the largest value
    np.testing.assert_allclose(result, wanted, rtol=0, atol=1e-5 * abs(wanted).max())


LINEAR = [
    ("ios18" if "4" in dtype or granularity == "per_block" else "ios16", dtype, mode, granularity)
    for dtype in ("int8", "uint8", "int4", "uint4")
    for mode in ("linear_symmetric", "linear")
    for granularity in ("per_tensor", "per_channel", "per_block")
]


@pytest.mark.parametrize(("target", "dtype", "mode", "granularity"), LINEAR)
def test_linear_quantize(target: str, dtype: str, mode: str, granularity: str, tmp_path: Path) -> None:
    # given one scale for each tensor, channel or block of 8 input channels
    block = {"block_size": 8} if granularity == "per_block" else {}
    # when
    model = compressed(
        target, {"kind": "linear_quantize", "dtype": dtype, "mode": mode, "granularity": granularity} | block
    )
    # then the weights are what the formula says, and the artifact computes with them
    assert model.skipped == ()
    for kind, weight in dense_weights(model).items():
        wanted = quantized(plain_weights()[kind], dtype, mode, block_sizes(kind, weight, granularity, 8))
        # the scale is rounded to float32 in another place
        np.testing.assert_allclose(weight, wanted, rtol=1e-6, atol=1e-7, err_msg=kind)
    assert_executed(model, tmp_path)


def test_linear_quantize_by_blocks_of_each_axis(tmp_path: Path) -> None:
    step = {
        "kind": "linear_quantize",
        "dtype": "int8",
        "granularity": "per_block",
        "block_size": [4, 2, 0, 1],
        "op_types": ["conv"],
    }
    model = compressed("ios18", step)
    wanted = quantized(plain_weights()["conv"], "int8", "linear_symmetric", [4, 2, 0, 1])
    np.testing.assert_allclose(dense_weights(model)["conv"], wanted, rtol=1e-6, atol=1e-7)  # scale rounded elsewhere
    assert_executed(model, tmp_path)


@pytest.mark.parametrize("nbits", [1, 2, 3, 4, 6, 8])
def test_palettize_by_kmeans(nbits: int, tmp_path: Path) -> None:
    # given / when
    model = compressed("ios18" if nbits == 3 else "ios16", {"kind": "palettize", "nbits": nbits})
    # then every weight became the mean of those that share its entry, and no entry is nearer
    assert model.skipped == ()
    for kind, weight in dense_weights(model).items():
        plain = plain_weights()[kind]
        table = np.unique(weight)
        assert len(table) == 2**nbits
        # a table in float32
        np.testing.assert_allclose(table, [plain[weight == entry].mean() for entry in table], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(abs(plain - weight), abs(plain[..., None] - table).min(-1), rtol=1e-4, atol=1e-7)
    assert_executed(model, tmp_path)


def test_palettize_uniform(tmp_path: Path) -> None:
    model = compressed("ios16", {"kind": "palettize", "nbits": 4, "mode": "uniform"})
    for kind, weight in dense_weights(model).items():
        plain = plain_weights()[kind]
        table = np.linspace(plain.min(), plain.max(), 16)
        wanted = table[np.round((plain - plain.min()) / (plain.max() - plain.min()) * 15).astype(int)]
        np.testing.assert_allclose(weight, wanted, rtol=1e-5, atol=1e-6)  # a table in float32
    assert_executed(model, tmp_path)


def test_palettize_unique_loses_nothing(tmp_path: Path) -> None:
    # given weights as integers, of which there are at most 255
    quantize = {"kind": "linear_quantize", "dtype": "int8", "granularity": "per_tensor"}
    once = compressed("ios18", quantize)
    # when
    model = compressed("ios18", quantize, {"kind": "palettize", "mode": "unique", "nbits": None})
    # then
    for kind, weight in dense_weights(model).items():
        np.testing.assert_array_equal(weight, dense_weights(once)[kind])
    assert_executed(model, tmp_path)


def test_palettize_unique_lists_weights_with_too_many_values() -> None:
    # given weights of more than 256 different values, but for those that were quantized
    quantize = {"kind": "linear_quantize", "dtype": "int8", "granularity": "per_tensor", "op_types": ["conv"]}
    # when
    model = compressed("ios18", quantize, {"kind": "palettize", "mode": "unique", "nbits": None})
    # then
    assert {layer.reason.partition(" be ")[0] for layer in model.skipped} == {
        "Can't perform palettization:Unique values in weight cannot"
    }
    assert len(model.skipped) == 3


@pytest.mark.parametrize(("group", "axis"), [(1, None), (8, None), (4, 1)])
def test_palettize_by_groups_of_channels(group: int, axis: int | None, tmp_path: Path) -> None:
    # given / when
    step = {"kind": "palettize", "nbits": 2, "granularity": "per_grouped_channel", "group_size": group}
    model = compressed("ios18", step | ({} if axis is None else {"channel_axis": axis}))
    # then each group has a table of its own
    assert model.skipped == ()
    for kind, weight in dense_weights(model).items():
        channels = np.moveaxis(weight, OUTPUT_AXIS[kind] if axis is None else axis, 0)
        groups = channels.reshape(-1, group * channels[0].size)
        assert [len(np.unique(part)) for part in groups] == [4] * len(groups)
        assert len(np.unique(weight)) > 4
    assert_executed(model, tmp_path)


@pytest.mark.parametrize("cluster_dim", [2, 4])
def test_palettize_vectors(cluster_dim: int, tmp_path: Path) -> None:
    # given / when
    model = compressed("ios18", {"kind": "palettize", "nbits": 4, "cluster_dim": cluster_dim})
    # then neighbours along the output channels are one of 16 vectors
    assert model.skipped == ()
    for kind, weight in dense_weights(model).items():
        vectors = np.moveaxis(weight, OUTPUT_AXIS[kind], -1).reshape(-1, cluster_dim)
        assert len(np.unique(vectors, axis=0)) == 16
    assert_executed(model, tmp_path)


def test_palettize_with_scales(tmp_path: Path) -> None:
    # given / when
    model = compressed("ios18", {"kind": "palettize", "nbits": 4, "enable_per_channel_scale": True})
    # then what is in the table are weights over their largest magnitude along the output channels
    for kind, weight in dense_weights(model).items():
        scale = abs(plain_weights()[kind]).max(OUTPUT_AXIS[kind], keepdims=True)
        values = np.sort((weight / scale).flatten())
        assert (np.diff(values) > 1e-4).sum() < 16  # entries lie far apart, and float32 rounds within 1e-7
    assert_executed(model, tmp_path)


@pytest.mark.parametrize("sparsity", [0.5, 0.75])
def test_prune_to_a_sparsity(sparsity: float, tmp_path: Path) -> None:
    model = compressed("ios16", {"kind": "prune", "target_sparsity": sparsity})
    for kind, weight in dense_weights(model).items():
        plain = plain_weights()[kind]
        wanted = np.where(abs(plain) <= np.quantile(abs(plain), sparsity), 0, plain)
        np.testing.assert_array_equal(weight, wanted)
    assert_executed(model, tmp_path)


def test_prune_large_weights_in_half_precision_to_a_sparsity() -> None:
    # given more weights than half precision can count
    spec = make_spec(
        input={"x": {"kind": "tensor", "shape": [1, 300]}},
        compression={"half": {"kind": "prune", "target_sparsity": 0.5}},
    )
    # when
    model = compress(convert_module(torch.nn.Linear(300, 300), spec), spec, Silent())
    # then half of them are zero, give or take those that equal the median
    assert (dense_weights(model)["linear"] == 0).mean() == pytest.approx(0.5, abs=0.002)


def test_prune_below_a_threshold(tmp_path: Path) -> None:
    model = compressed("ios16", {"kind": "prune", "threshold": 0.15, "minimum_sparsity": 0.3})
    for kind, weight in dense_weights(model).items():
        plain = plain_weights()[kind]
        np.testing.assert_array_equal(weight, np.where(abs(plain) <= 0.15, 0, plain))
    assert_executed(model, tmp_path)


@pytest.mark.parametrize("dim", [None, 0, 1])
def test_prune_n_of_m(dim: int | None, tmp_path: Path) -> None:
    # given / when: of every four, the three smallest
    step = {"kind": "prune", "n_m_ratio": [3, 4], "dim": dim}
    model = compressed("ios16", step)
    # then only convolutions and linear layers are pruned, the others listed
    assert len(model.skipped) == 2
    for kind in ("conv", "linear"):
        plain, weight = (
            np.moveaxis(w[kind], 1 if dim is None else dim, -1).reshape(-1, 4)
            for w in (plain_weights(), dense_weights(model))
        )
        largest = np.argsort(abs(plain), axis=-1)[:, -1:]
        wanted = np.zeros_like(plain)
        np.put_along_axis(wanted, largest, np.take_along_axis(plain, largest, -1), -1)
        np.testing.assert_array_equal(weight, wanted)
    assert_executed(model, tmp_path)


@pytest.mark.parametrize("dim", [None, 1])
def test_prune_blocks(dim: int | None, tmp_path: Path) -> None:
    # given / when
    model = compressed("ios16", {"kind": "prune", "target_sparsity": 0.5, "block_size": 4, "dim": dim})
    # then zeros come in fours along the axis, those of the smallest norms
    for kind in ("conv", "linear"):
        plain, weight = (
            np.moveaxis(w[kind], 0 if dim is None else dim, -1).reshape(-1, 4)
            for w in (plain_weights(), dense_weights(model))
        )
        norm = np.sqrt((plain * plain).sum(-1))
        pruned = (weight == 0).all(-1)
        assert pruned.mean() == pytest.approx(0.5, abs=0.01)  # the median itself may go either way
        assert norm[pruned].max() <= norm[~pruned].min()
        np.testing.assert_array_equal(weight[~pruned], plain[~pruned])
    assert_executed(model, tmp_path)


PRUNE = {"kind": "prune", "target_sparsity": 0.5}
INT8 = {"kind": "linear_quantize", "dtype": "int8"}
PALETTIZE = {"kind": "palettize", "nbits": 4}
TABLE = {"kind": "linear_quantize", "dtype": "int8", "granularity": "per_tensor", "weight_threshold": 500}


@pytest.mark.parametrize(
    "steps",
    [
        (PRUNE, PALETTIZE),
        (PRUNE, INT8),
        (PRUNE, PALETTIZE, TABLE),
        (PALETTIZE, TABLE),
        (PALETTIZE | {"granularity": "per_grouped_channel", "group_size": 8}, TABLE),
        (PALETTIZE, PRUNE),
        (INT8, PRUNE),
        (INT8, PALETTIZE),
    ],
    ids=lambda steps: "_".join(step["kind"] for step in steps),
)
def test_steps_upon_each_other(steps: tuple[dict[str, Any], ...], tmp_path: Path) -> None:
    # given a first step alone
    first = dense_weights(compressed("ios18", steps[0]))
    # when all are applied
    model = compressed("ios18", *steps)
    # then every weight was changed by every step, by no more than rounding of the later ones
    assert model.summary == ", ".join(f"step_{index}: 4 weights" for index in range(len(steps)))
    assert model.skipped == ()
    for kind, weight in dense_weights(model).items():
        assert not np.array_equal(weight, plain_weights()[kind])
        if PRUNE in steps:
            assert (weight == 0).mean() >= 0.49
        if steps[0] == PRUNE:
            assert ((weight == 0) | (first[kind] != 0)).all()
    assert_executed(model, tmp_path)
