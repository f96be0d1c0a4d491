"""Compression: the storage is Core AI's own and small, the interpreter sees the values, reasons are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builder.backends.coreai import engine
from builder.backends.coreai.compression.compress import compress
from builder.backends.coreai.compression.palettize import palettize
from builder.backends.coreai.compression.prune import prune
from builder.backends.coreai.compression.quantize import quantize
from builder.backends.coreai.describe import describe
from builder.backends.coreai.modules import weight_users
from builder.errors import ConfigurationError, ConversionError
from builder.spec.compression import LinearQuantize, Palettize, Prune
from coreml_runtime.coreai.loading import read_function
from coreml_runtime.forms import Form


def integers(**settings: Any) -> LinearQuantize:
    return LinearQuantize(kind="linear_quantize", weight_threshold=200, **settings)


def palette(**settings: Any) -> Palettize:
    return Palettize(kind="palettize", weight_threshold=200, **settings)


def zeros(**settings: Any) -> Prune:
    return Prune(kind="prune", weight_threshold=200, **settings)


METHODS = {
    "int8": [integers()],
    "uint8 of a tensor": [integers(dtype="uint8", mode="linear", granularity="per_tensor")],
    "int4 by block": [integers(dtype="int4", granularity="per_block", block_size=4)],
    "uint4": [integers(dtype="uint4")],
    **{f"palette of {bits} bits": [palette(nbits=bits)] for bits in (1, 2, 3, 4, 6, 8)},
    "grouped palettes": [palette(nbits=4, granularity="per_grouped_channel", group_size=4)],
    "palettes along inputs": [palette(nbits=4, granularity="per_grouped_channel", group_size=2, channel_axis=1)],
    "palette of vectors": [palette(nbits=6, cluster_dim=2)],
    "scaled palette": [palette(nbits=6, enable_per_channel_scale=True)],
    "uniform palette": [palette(nbits=8, mode="uniform")],
    "half zeros": [zeros(target_sparsity=0.5)],
    "one of two": [zeros(n_m_ratio=[1, 2])],
    "zeros, then a palette": [zeros(target_sparsity=0.4), palette(nbits=6)],
    "zeros, then integers": [zeros(target_sparsity=0.4), integers()],
    "a palette of integers": [palette(nbits=6), integers()],
    "zeros, then a palette of integers": [zeros(target_sparsity=0.4), palette(nbits=6), integers()],
    "a palette with zeros": [palette(nbits=6), zeros(target_sparsity=0.4)],
    "integers with zeros": [integers(), zeros(target_sparsity=0.4)],
}
STEP = {LinearQuantize: quantize, Palettize: palettize, Prune: prune}


@pytest.mark.parametrize("name", METHODS)
def test_the_interpreter_sees_the_compressed_values(name: str, small: Any, converted: Any, tmp_path: Path) -> None:
    steps = {f"s{number}": step for number, step in enumerate(METHODS[name])}
    results = compress(converted(False)[0], tmp_path, steps)
    assert set(results[-1].changed) == {"conv.weight", "linear.weight", "last.weight"}
    assert np.allclose(
        engine.predict(results[-1].asset, [{"image": small[1].numpy()}])[0][0]["logits"],
        _by_torch(small, METHODS[name]),
        atol=2e-5,  # float32's rounding
    )
    before = (converted(False)[0] / "main.mlirb").stat().st_size
    assert (results[-1].asset / "main.mlirb").stat().st_size < before * 0.8


def _by_torch(small: Any, steps: list[Any]) -> np.ndarray:
    """What the network gives in torch with the same steps on the weights that conversion folded."""
    import copy

    model = copy.deepcopy(small[0])
    folded = torch.nn.utils.fusion.fuse_conv_bn_eval(model.conv, model.norm)
    model.conv, model.norm = folded, torch.nn.Identity()
    for layer in (model.conv, model.linear, model.last):
        form = Form(dense=layer.weight.detach().numpy())
        for step in steps:
            found = STEP[type(step)](form, step, (0, 1))
            assert isinstance(found, Form), found
            form = found
        layer.weight.data = torch.from_numpy(np.ascontiguousarray(form.dense))
    with torch.no_grad():
        return model(small[1]).numpy()


def test_layers_that_stay_have_reasons(converted: Any, tmp_path: Path) -> None:
    (result,) = compress(converted(False)[0], tmp_path, {"blocks": integers(granularity="per_block", block_size=32)})
    assert {layer.name: layer.reason for layer in result.skipped if layer.name == "conv.weight"} == {
        "conv.weight": "axis 1 has 4 elements, no multiple of the block size 32"
    }


def test_weights_are_chosen_by_operator_and_by_name(converted: Any, tmp_path: Path) -> None:
    (result,) = compress(converted(False)[0], tmp_path, {"s": integers(op_types=["linear"], except_names=["last"])})
    assert result.changed == ("linear.weight",)
    stored = {weight.name: weight.bytes for weight in describe(result.asset).weights}
    assert stored["linear.weight"] == 32 * 512 + 32 * 4  # a byte each, and a scale for each output


def test_a_pattern_that_matches_nothing_is_named(converted: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no weight of the program belongs to lats\*"):
        compress(converted(False)[0], tmp_path, {"s": integers(names=["lats*"])})


def test_a_step_that_changes_nothing_is_an_error(converted: Any, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="changed no weight: only weights of more than 100000 elements"):
        compress(converted(False)[0], tmp_path, {"s": LinearQuantize(kind="linear_quantize", weight_threshold=100000)})


def test_quantizing_is_what_coremltools_computes() -> None:
    from coremltools.converters.mil.mil import types
    from coremltools.optimize._utils import compute_qparams_by_dtype

    weight = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    kinds = {"int8": "linear_symmetric", "uint8": "linear", "int4": "linear", "uint4": "linear_symmetric"}
    for dtype, mode in kinds.items():
        form = quantize(Form(dense=weight), integers(dtype=dtype, mode=mode, granularity="per_block"), (0, 1))
        assert isinstance(form, Form)
        data, scale, zero = compute_qparams_by_dtype(weight, types.string_to_builtin(dtype), mode.upper(), [1, 32])
        np.testing.assert_array_equal(form.scaled.data, data.astype(form.scaled.data.dtype))
        np.testing.assert_allclose(form.scaled.scale, scale, rtol=1e-6)
        np.testing.assert_array_equal(form.scaled.zero, 0 if zero is None else zero.astype(np.int16))


def test_the_values_that_a_weight_makes_bear_the_runtimes_names(converted: Any) -> None:
    asset = converted(False)[0]
    users = weight_users(asset)
    assert users.keys() == {"conv.weight", "linear.weight", "last.weight"}
    types = {output.name: each.type for each in read_function(asset).block.operations for output in each.outputs}
    assert {name: {types[value] for value in values} for name, values in users.items()} == {
        "conv.weight": {"conv2d"}, "linear.weight": {"batch_matmul"}, "last.weight": {"batch_matmul"},
    }  # fmt: skip
