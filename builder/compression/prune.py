"""Small weights become zero, by coremltools."""

from __future__ import annotations

from typing import Any

from builder.spec.compression import Prune


def prune_passes(step: Prune, *, further: bool) -> list[Any]:
    """The passes of coremltools that prune weights; `further`: then those that earlier steps compressed, too.

    coremltools prunes either plain weights or compressed ones in one pass.
    """
    import coremltools.optimize.coreml as cto
    from coremltools.optimize.coreml import _quantization_passes as passes

    config: Any
    if step.threshold is not None:
        config = cto.OpThresholdPrunerConfig(
            threshold=step.threshold,
            minimum_sparsity_percentile=0.5 if step.minimum_sparsity is None else step.minimum_sparsity,
            weight_threshold=step.weight_threshold,
        )
    else:
        config = cto.OpMagnitudePrunerConfig(
            target_sparsity=step.target_sparsity,
            block_size=step.block_size,
            n_m_ratio=None if step.n_m_ratio is None else tuple(step.n_m_ratio),
            dim=step.dim,
            weight_threshold=step.weight_threshold,
        )
    found = []
    for compressed in (False, True) if further else (False,):
        prune = passes.prune_weights(cto.OptimizationConfig(global_config=config))
        prune.joint_compression = compressed
        found.append(prune)
    return found
