"""Small weights become zero, by coremltools."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from builder.spec.compression import Prune

if TYPE_CHECKING:
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.optimize.coreml import OpCompressorConfig


def prune_passes(step: Prune, *, further: bool) -> list[AbstractGraphPass]:
    """The passes of coremltools that prune weights; `further`: then those that earlier steps compressed, too.

    coremltools prunes either plain weights or compressed ones in one pass.
    """
    import coremltools.optimize.coreml as cto
    from coremltools.optimize.coreml import _quantization_passes as passes

    config: OpCompressorConfig
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


def numpy_with_exact_percentiles() -> SimpleNamespace:
    """What coremltools' pruning knows as `np`, with percentiles in float64.

    Given half precision, numpy (2.3) computes the place of a percentile in half precision as well: of more than 2048
    weights it misses the place, and of more than 65,504 the percentile is NaN and nothing becomes zero, whatever
    `target_sparsity` says. Delete this when coremltools prunes in a wider type.
    """

    def percentile(values: object, share: float) -> np.floating:
        return np.percentile(np.asarray(values, dtype=np.float64), share)

    return SimpleNamespace(**{**vars(np), "percentile": percentile})
