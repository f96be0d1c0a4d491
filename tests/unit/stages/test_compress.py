"""The compress stage: what each method does to the weights, and what it says about those it leaves alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from builder.artifacts.stages import CompressedModel
from builder.backends.coreml.compress import compress
from builder.errors import BuilderError
from builder.progress import Silent
from tests.unit.stages.small_builds import Convolutions, convert_module, make_spec, operators


def _compress(target: str = "ios18", **steps: Any) -> CompressedModel:
    spec = make_spec(target={"name": target}, compression=steps)
    return compress(convert_module(Convolutions(), spec), spec, Silent())


def _weight_bytes(model: Any) -> int:
    return (Path(model.weights_dir) / "weight.bin").stat().st_size


def _op_types(compressed: CompressedModel) -> Counter[str]:
    return Counter(op.op_type for op in operators(compressed))


@pytest.mark.parametrize(
    ("target", "step", "op_type", "most"),
    [
        ("ios16", {"kind": "linear_quantize", "dtype": "int8"}, "constexpr_affine_dequantize", 0.6),
        ("ios16", {"kind": "palettize", "nbits": 8}, "constexpr_lut_to_dense", 0.6),
        ("ios16", {"kind": "palettize", "nbits": 6}, "constexpr_lut_to_dense", 0.46),
        ("ios16", {"kind": "palettize", "nbits": 4}, "constexpr_lut_to_dense", 0.34),
        ("ios16", {"kind": "palettize", "nbits": 2}, "constexpr_lut_to_dense", 0.23),
        ("ios16", {"kind": "prune", "target_sparsity": 0.5}, "constexpr_sparse_to_dense", 0.64),
        ("ios18", {"kind": "linear_quantize", "dtype": "int4"}, "constexpr_blockwise_shift_scale", 0.36),
    ],
)
def test_each_method_makes_the_weights_smaller(target: str, step: dict[str, Any], op_type: str, most: float) -> None:
    # given a converted model and one step
    whole = _weight_bytes(_compress(target).model)
    # when it is compressed
    compressed = _compress(target, step=step)
    # then both large weights are stored in that form, and the stem's is listed as too small
    assert _op_types(compressed)[op_type] == 2
    assert [layer.reason for layer in compressed.skipped] == ["1728 elements, and weight_threshold is 2048"]
    # and take nbits of 16, with tables, biases and the stem's weights on top
    assert _weight_bytes(compressed.model) < most * whole


def test_steps_are_applied_one_upon_the_other() -> None:
    # given pruning, then palettizing
    compressed = _compress(prune={"kind": "prune", "target_sparsity": 0.5}, palettize={"kind": "palettize", "nbits": 4})
    # when the program is looked at, then weights are both sparse and palettized
    types = _op_types(compressed)
    assert types["constexpr_lut_to_sparse"] == 2
    assert types["constexpr_sparse_to_dense"] == 2


def test_a_layer_that_is_left_alone_is_listed_with_the_reason() -> None:
    # given blocks of 32, and a linear layer of 50 inputs
    step = {"kind": "linear_quantize", "dtype": "int4", "granularity": "per_block", "block_size": 32}
    # when the model is compressed
    _, skipped = _compress(blocks=step).skipped
    # then the layer is named, with coremltools' reason
    assert (skipped.step, skipped.name) == ("blocks", "model_head_weight_to_fp16")
    assert "50 is not divisible by block size 32" in skipped.reason


def test_a_step_applies_to_the_operators_that_it_names() -> None:
    compressed = _compress("ios16", step={"kind": "palettize", "op_types": ["linear"]})
    assert _op_types(compressed)["constexpr_lut_to_dense"] == 1


@pytest.mark.parametrize(
    ("step", "message", "hint"),
    [
        ({"kind": "palettize", "op_types": ["linea"]}, "belongs to linea", "`linear`"),
        ({"kind": "palettize", "names": ["model_head_weight"]}, "belongs to model_head", "`model_head_weight_to_fp16`"),
        (
            {"kind": "prune", "target_sparsity": 0.5, "weight_threshold": 10**6},
            "only weights of more than 1000000 elements",
            None,
        ),
        (
            {"kind": "palettize", "granularity": "per_grouped_channel", "group_size": 16},
            "50.* is not divisible by channel_group_size",
            None,
        ),
    ],
)
def test_a_step_that_does_nothing_is_an_error(step: dict[str, Any], message: str, hint: str | None) -> None:
    with pytest.raises(BuilderError, match=message) as caught:
        _compress(step=step)
    assert hint is None or hint in (caught.value.hint or "")


def test_the_converted_model_stays_as_it_is() -> None:
    # given a converted model
    spec = make_spec(compression={"palettize": {"kind": "palettize", "nbits": 4}})
    converted = convert_module(Convolutions(), spec)
    before = converted.model._spec.SerializeToString(deterministic=True), _weight_bytes(converted.model)
    # when it is compressed, then it has not changed
    compress(converted, spec, Silent())
    assert (converted.model._spec.SerializeToString(deterministic=True), _weight_bytes(converted.model)) == before
