"""Steps on the PyTorch model: the `.aimodel` stores what torch compressed, and Apple's interpreter computes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from builder.backends.coreai import engine
from builder.backends.coreai.compression.module_forms import module_forms
from builder.backends.coreai.convert import convert
from builder.backends.coreai.describe import describe
from builder.spec.module_compression import PostTrainingPalettize
from builder.spec.rules.compatibility import find_incompatibilities
from builder.util.measures import compare
from tests.unit.module_compression.test_methods import HERE, NOISE, Net
from tests.unit.stages.small_builds import capture_module, make_spec

BLOCKS = {"dtype": "int4", "granularity": "per_block", "block_size": 4}


def _spec(precision: str = "fp32", **step: Any) -> Any:
    return make_spec(
        input={"x": {"kind": "tensor", "shape": [1, 8, 6, 6]}},
        precision={"kind": precision},
        target={"name": "ios27"},
        format="aimodel",
        capture={"method": "export"},
        compression={"step": {"weight_threshold": 500} | step},
    )


def _converted(precision: str = "fp32", **step: Any) -> tuple[Any, Any, Any]:
    spec = _spec(precision, **step)
    assert find_incompatibilities(spec) == []
    prepared, captured, examples, spec = capture_module(Net(), spec)
    return prepared, convert(prepared, captured, examples, spec), examples


@pytest.mark.parametrize(
    ("step", "operator", "count"),
    [
        ({"kind": "post_training_quantize"}, "blockwise_shift_scale", 3),
        ({"kind": "post_training_quantize", "mode": "affine", **BLOCKS}, "blockwise_shift_scale", 3),
        ({"kind": "post_training_palettize", "nbits": 4}, "lut_to_dense", 3),
        ({"kind": "post_training_palettize", "granularity": "per_grouped_channel", "group_size": 8}, "lut_to_dense", 3),
        ({"kind": "sensitive_kmeans", "nbits": 2, **NOISE}, "lut_to_dense", 3),
        ({"kind": "gptq", "nbits": 4, **NOISE}, "blockwise_shift_scale", 2),
        ({"kind": "gptq", "nbits": 3, "mode": "affine", **NOISE}, "blockwise_shift_scale", 2),
        ({"kind": "magnitude_prune"}, "sparse_with_bitmask_to_dense", 3),
    ],
)  # fmt: skip
def test_the_asset_computes_what_the_compressed_model_computes(step: dict[str, Any], operator: str, count: int) -> None:
    prepared, converted, examples = _converted(**step)
    path, sample = converted.model.path, examples.samples[1]
    assert describe(path).op_counts[operator] == count
    (found,), _ = engine.predict(path, [{"x": sample.tensors["x"].numpy()}])
    with torch.no_grad():
        (wanted,) = prepared.module(*sample.tensors.values())
    assert compare(wanted, next(iter(found.values()))).snr_db > 80


def test_in_half_precision_too() -> None:
    prepared, converted, examples = _converted("fp16", kind="post_training_palettize", nbits=4)
    assert describe(converted.model.path).op_counts["lut_to_dense"] == 3
    (found,), _ = engine.predict(converted.model.path, [{"x": examples.samples[1].tensors["x"].numpy()}])
    with torch.no_grad():
        (wanted,) = prepared.module(*examples.samples[1].tensors.values())
    assert compare(wanted, next(iter(found.values()))).snr_db > 45


def test_zeros_that_also_have_a_table_are_stored_as_both() -> None:
    spec = _spec(kind="magnitude_prune")
    steps = {**spec.compression, "table": PostTrainingPalettize(kind="post_training_palettize", weight_threshold=500)}
    prepared, captured, examples, spec = capture_module(Net(), spec.model_copy(update={"compression": steps}))
    converted = convert(prepared, captured, examples, spec)
    path = converted.model.path
    counts = describe(path).op_counts
    assert counts["lut_to_dense"] == 3
    (found,), _ = engine.predict(path, [{"x": examples.samples[1].tensors["x"].numpy()}])
    with torch.no_grad():
        (wanted,) = prepared.module(*examples.samples[1].tensors.values())
    assert compare(wanted, next(iter(found.values()))).snr_db > 80


def test_training_for_integers_is_refused_by_name() -> None:
    (problem,) = find_incompatibilities(_spec(kind="quantization_aware_training", training=f"{HERE}:tune"))
    assert problem.path == ("compression", "step")
    assert "torch.export does not take" in problem.message


def test_a_block_as_wide_as_a_layer_is_said_to_change_nothing() -> None:
    spec = _spec(kind="post_training_quantize", dtype="int4", granularity="per_block", block_size=8)
    prepared = capture_module(Net(), spec)[0]
    assert {layer.name for layer in prepared.skipped} == {"conv"}
    assert module_forms(prepared.module).keys() == {"grouped.weight", "head.weight"}
