"""Which weights a step is for, what it says of those it leaves alone, and that nothing depends on threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from builder.backends.coreml.compression.kmeans import cluster_values
from builder.errors import ConversionError
from tests.unit.compression.small_net import compressed, dense_weights, plain_weights

INT8 = {"kind": "linear_quantize"}


def _changed(target: str, *steps: dict[str, Any]) -> set[str]:
    plain = plain_weights()
    weights = dense_weights(compressed(target, *steps))
    return {kind for kind, weight in weights.items() if not np.array_equal(weight, plain[kind])}


@pytest.mark.parametrize(
    ("chosen", "changed"),
    [
        ({}, {"conv", "conv_transpose", "linear", "matmul"}),
        ({"op_types": ["conv*"]}, {"conv", "conv_transpose"}),
        ({"op_types": ["conv*"], "except_op_types": ["*transpose"]}, {"conv"}),
        ({"names": ["*fc*"]}, {"linear"}),
        ({"names": ["*fc*", "model_up_weight"]}, {"linear", "conv_transpose"}),
        ({"except_names": ["model_conv_*"]}, {"conv_transpose", "linear", "matmul"}),
        ({"op_types": ["conv", "linear"], "names": ["*weight"], "except_names": ["*fc*"]}, {"conv"}),
    ],
)
def test_weights_are_chosen_by_type_name_and_exception(chosen: dict[str, Any], changed: set[str]) -> None:
    assert _changed("ios16", INT8 | chosen) == changed


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (INT8 | {"granularity": "per_block", "block_size": 16}, "the dim size 8 is not divisible by block size 16"),
        (INT8 | {"weight_threshold": 1100}, "1024 elements, and weight_threshold is 1100"),
        ({"kind": "prune", "n_m_ratio": [1, 2]}, "blocks and n:m ratios are for conv and linear, and this is for matm"),
        ({"kind": "palettize", "granularity": "per_grouped_channel", "group_size": 32}, "(48) is not divisible by"),
        ({"kind": "palettize", "cluster_dim": 32}, "the output channels of each group are not a multiple"),
        ({"kind": "prune", "threshold": 0.1325, "minimum_sparsity": 0.5}, "minimum_sparsity_percentile 0.5"),
    ],
)
def test_a_weight_that_is_left_alone_is_listed_with_the_reason(step: dict[str, Any], reason: str) -> None:
    skipped = compressed("ios18", step).skipped
    assert any(reason in layer.reason for layer in skipped), skipped


def test_a_weight_that_is_compressed_already_is_listed() -> None:
    first = INT8 | {"op_types": ["conv"]}
    (layer,) = compressed("ios18", first, INT8).skipped
    assert layer.name == "model_conv_weight"
    assert layer.reason == (
        "compressed already (constexpr_blockwise_shift_scale), and linear_quantize adds nothing to that"
    )


def test_weights_that_two_steps_meet_at_need_ios18() -> None:
    with pytest.raises(ConversionError, match="model_conv_weight, which is compressed already") as caught:
        compressed("ios16", INT8 | {"op_types": ["conv"]}, {"kind": "palettize", "names": ["*conv*"]})
    assert "so that the steps do not meet" in (caught.value.hint or "")


def test_each_weight_can_have_a_step_of_its_own_for_ios16() -> None:
    steps = (
        INT8 | {"op_types": ["conv"]},
        {"kind": "palettize", "nbits": 4, "op_types": ["linear"]},
        {"kind": "prune", "target_sparsity": 0.5, "except_op_types": ["conv", "linear"]},
    )
    model = compressed("ios16", *steps)
    assert model.summary == "step_0: 1 weight, step_1: 1 weight, step_2: 2 weights"


def test_a_weight_that_was_scaled_and_then_left_alone_is_as_before() -> None:
    # given groups of 32 channels, which do not divide the 48 of the matrix product
    step = {"kind": "palettize", "granularity": "per_grouped_channel", "group_size": 16, "op_types": ["conv", "matmul"]}
    model = compressed("ios18", step | {"group_size": 32, "enable_per_channel_scale": True})
    # then its values stay, although coremltools has scaled them in place
    np.testing.assert_array_equal(dense_weights(model)["matmul"], plain_weights()["matmul"])


def test_kmeans_of_few_values_keeps_them() -> None:
    centers, indices = cluster_values(np.array([3.0, 1.0, 3.0]), 4)
    assert (centers[indices] == [3, 1, 3]).all()


@pytest.mark.parametrize("count", [2, 16, 64, 256])
def test_kmeans_is_as_good_as_that_of_scikit_learn(count: int) -> None:
    # given weights with long tails
    from sklearn.cluster import KMeans

    values = np.random.default_rng(1).standard_t(3, 6000)
    other = KMeans(count, n_init=1, random_state=0).fit(values[:, None])
    # when
    centers, indices = cluster_values(values, count)
    # then the error is no larger, but for the luck of a start: 5 %
    assert ((values - centers[indices]) ** 2).sum() <= 1.05 * other.inertia_
    assert (np.diff(centers) > 0).all()
