"""How weights are made smaller: named steps, a closed union by `kind`, in the order in which the recipe names them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.spec.base import Part, PositiveInt


class CompressionStep(Part):
    """Which weights a step applies to."""

    weight_threshold: PositiveInt = 2048
    """Weights with fewer elements are left alone."""
    op_types: Annotated[list[str], Field(min_length=1)] | None = None
    """MIL operator types whose weights are compressed, such as `conv`; all unless given."""
    names: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of the weights' operators; all unless given."""


class LinearQuantize(CompressionStep):
    """Integers with a linear scale."""

    kind: Literal["linear_quantize"]
    dtype: Literal["int8", "int4", "uint8", "uint4"] = "int8"
    mode: Literal["linear_symmetric", "linear"] = "linear_symmetric"
    granularity: Literal["per_tensor", "per_channel", "per_block"] = "per_channel"
    block_size: PositiveInt = 32


class Palettize(CompressionStep):
    """Indices into a table of `2**nbits` values."""

    kind: Literal["palettize"]
    nbits: Literal[1, 2, 3, 4, 6, 8] = 6
    mode: Literal["kmeans", "uniform", "unique"] = "kmeans"
    granularity: Literal["per_tensor", "per_grouped_channel"] = "per_tensor"
    group_size: PositiveInt = 32


class Prune(CompressionStep):
    """The smallest weights become zero and are stored sparsely."""

    kind: Literal["prune"]
    target_sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.5


Compression = Annotated[LinearQuantize | Palettize | Prune, Field(discriminator="kind")]
