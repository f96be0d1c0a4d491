"""Compressed weights of a file are known in the exported program, by the form in which the file stores them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder, quantization_utils

from coreml_runtime.export import export
from tests.runtime.programs import save_program

# coremltools leaves its temporary folders to the collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

RNG = np.random.default_rng(0)
KERNEL = RNG.standard_normal((64, 16, 3, 3)).astype(np.float32)
MATRIX = RNG.standard_normal((256, 64)).astype(np.float32)

LINEAR = cto.OpLinearQuantizerConfig
PALETTE = cto.OpPalettizerConfig
VARIANTS: dict[str, list[Any]] = {
    "int8": [LINEAR(weight_threshold=0)],
    "asymmetric": [LINEAR(mode="linear", weight_threshold=0)],
    "uint8_tensor": [LINEAR(mode="linear", dtype="uint8", granularity="per_tensor", weight_threshold=0)],
    "int4_blocks": [LINEAR(dtype="int4", granularity="per_block", block_size=16, weight_threshold=0)],
    "lut6": [PALETTE(nbits=6, mode="uniform", weight_threshold=0)],
    "lut4_groups": [
        PALETTE(nbits=4, mode="uniform", granularity="per_grouped_channel", group_size=8, weight_threshold=0)
    ],
    "lut4_vectors": [PALETTE(nbits=4, mode="kmeans", cluster_dim=2, weight_threshold=0)],
    "lut2_scaled": [PALETTE(nbits=2, mode="uniform", enable_per_channel_scale=True, weight_threshold=0)],
    "sparse": [cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=0)],
    "sparse_lut": [
        cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=0),
        PALETTE(nbits=4, mode="uniform", weight_threshold=0),
    ],
    "sparse_int8": [
        cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=0), LINEAR(weight_threshold=0),
    ],
    "lut_of_int8": [
        PALETTE(nbits=4, mode="uniform", weight_threshold=0), LINEAR(granularity="per_tensor", weight_threshold=0),
    ],
}  # fmt: skip
KINDS = {
    "sparse": "sparse", "sparse_lut": "sparse and palettized", "sparse_int8": "sparse and quantized",
    **dict.fromkeys(("lut6", "lut4_groups", "lut4_vectors", "lut2_scaled", "lut_of_int8"), "palettized"),
}  # fmt: skip


def network(x: Any) -> Any:
    x = mb.relu(x=mb.conv(x=x, weight=KERNEL, pad_type="same", name="first"), name="act")
    return mb.linear(x=mb.reduce_mean(x=x, axes=[2, 3], name="mean"), weight=MATRIX, name="last")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The network in both precisions, by coremltools."""
    found = {}
    for precision in ("fp32", "fp16"):
        path = save_program(
            tmp_path_factory.mktemp(precision), network, {"x": ((1, 16, 8, 8), "fp32")}, precision=precision,
            opset="ios18",
        )  # fmt: skip
        found[precision] = ct.models.MLModel(str(path), skip_model_load=True)
    return found


def compressed(plain: Any, variant: str, folder: Path) -> Path:
    """The model with its weights compressed by coremltools."""
    model = plain
    for step in VARIANTS[variant]:
        config = cto.OptimizationConfig(global_config=step)
        joint = len(VARIANTS[variant]) > 1 and step is VARIANTS[variant][-1]
        if isinstance(step, LINEAR):
            model = cto.linear_quantize_weights(model, config, joint_compression=joint)
        elif isinstance(step, PALETTE):
            model = cto.palettize_weights(model, config, joint_compression=joint)
        else:
            model = cto.prune_weights(model, config)
    path = folder / f"{variant}.mlpackage"
    model.save(str(path))
    return path


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_compressed_weights_are_known_by_their_form(
    plain: dict[str, Any], variant: str, precision: str, tmp_path: Path
) -> None:
    # given
    path = compressed(plain[precision], variant, tmp_path)

    # when
    exported = export(path)

    # then
    names = {form.name for form in exported.forms.values()}
    assert names == {KINDS.get(variant, "quantized")}
    assert len(exported.forms) == 2
    for name, form in exported.forms.items():
        weight = exported.program.state_dict[name].detach().numpy()
        assert np.array_equal(form.dense, weight)
        assert form.bytes < 0.8 * weight.nbytes


@pytest.mark.parametrize(("bits", "mode"), [(8, "linear"), (4, "linear_lut"), (8, "linear_symmetric")])
def test_weights_of_a_neural_network_are_known_too(bits: int, mode: str, tmp_path: Path) -> None:
    # given
    builder = NeuralNetworkBuilder([("x", datatypes.Array(16, 8, 8))], [("y", None)], disable_rank5_shape_mapping=False)
    builder.add_convolution(
        "conv_1", 16, 64, 3, 3, 1, 1, "same", 1, KERNEL.transpose(2, 3, 1, 0), None, False, input_name="x",
        output_name="a",
    )  # fmt: skip
    builder.add_flatten("flat", 0, "a", "b")
    builder.add_inner_product("fc", MATRIX[:8, :1].repeat(64 * 64, 1), None, 64 * 64, 8, False, "b", "y")
    model = ct.models.MLModel(builder.spec, skip_model_load=True)
    small = quantization_utils.quantize_weights(model, bits, mode)
    spec = small if not hasattr(small, "get_spec") else small.get_spec()
    ct.models.MLModel(spec, skip_model_load=True).save(str(tmp_path / "n.mlmodel"))

    # when
    exported = export(tmp_path / "n.mlmodel")

    # then
    assert len(exported.forms) == 2
    assert {form.name for form in exported.forms.values()} == {"palettized" if mode == "linear_lut" else "quantized"}
