"""Integers with a linear scale, by coremltools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.spec.compression import LinearQuantize

if TYPE_CHECKING:
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass


def linear_quantize_passes(step: LinearQuantize, *, further: bool) -> list[AbstractGraphPass]:
    """The passes of coremltools that quantize weights; `further`: also what earlier steps compressed.

    q = round(w / scale) + zero point, clipped to the dtype's range, for a scale that covers [-max, max] or [min, max].
    """
    import coremltools.optimize.coreml as cto
    from coremltools.optimize.coreml import _quantization_passes as passes

    config = cto.OpLinearQuantizerConfig(
        mode=step.mode,
        dtype=step.dtype,
        granularity=step.granularity,
        block_size=32 if step.block_size is None else step.block_size,
        weight_threshold=step.weight_threshold,
    )
    quantize = passes.linear_quantize_weights(cto.OptimizationConfig(global_config=config))
    quantize.joint_compression = further
    return [quantize]
