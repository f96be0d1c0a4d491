"""Indices into small tables of values, by coremltools with tables that do not depend on threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from builder.backends.coreml.compression.kmeans import cluster_values
from builder.spec.compression import Palettize

if TYPE_CHECKING:
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass

LookupTable = Callable[..., tuple[np.ndarray, np.ndarray]]
"""From bits and values of a weight to the entries of its table, and the place in it of each value."""


def palettize_passes(step: Palettize, *, further: bool) -> list[AbstractGraphPass]:
    """The passes of coremltools that palettize weights; `further`: also what earlier steps compressed."""
    import coremltools.optimize.coreml as cto
    from coremltools.optimize.coreml import _quantization_passes as passes

    config = cto.OpPalettizerConfig(
        mode=step.mode,
        nbits=step.nbits if step.mode != "unique" else None,
        granularity=step.granularity,
        group_size=32 if step.group_size is None else step.group_size,
        channel_axis=step.channel_axis,
        cluster_dim=step.cluster_dim,
        enable_per_channel_scale=step.enable_per_channel_scale,
        num_kmeans_workers=1,  # more than one hung in one of two runs
        weight_threshold=step.weight_threshold,
    )
    palettize = passes.palettize_weights(cto.OptimizationConfig(global_config=config))
    palettize.joint_compression = further
    return [palettize]


def lookup_table(original: LookupTable) -> LookupTable:
    """Like coremltools' `_get_kmeans_lookup_table_and_weight`, with our k-means for tables of single values.

    Its own needs scikit-learn, or kmeans1d where that happens to be installed, and gives another table with each.
    Vectors still go to scikit-learn, unless each different one has an entry of its own.
    """
    from coremltools.optimize._utils import reshape_weight_for_vector_lut

    def find(
        nbits: int, weight: object, force_kmeans1d: bool = False, cluster_dim: int = 1, vector_axis: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        if cluster_dim == 1:
            centers, indices = cluster_values(np.asarray(weight).reshape(-1), 1 << nbits)
            return np.pad(centers, (0, (1 << nbits) - len(centers))), indices
        vectors = reshape_weight_for_vector_lut(weight, cluster_dim, vector_axis).reshape(-1, cluster_dim)
        different, indices = np.unique(vectors, axis=0, return_inverse=True)
        if len(different) > 1 << nbits:
            return original(nbits, weight, force_kmeans1d, cluster_dim=cluster_dim, vector_axis=vector_axis)
        return np.pad(different, ((0, (1 << nbits) - len(different)), (0, 0))), indices.reshape(-1)

    return find
