"""How weights are made smaller: named steps, a closed union by `kind`, in the order in which the recipe names them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.spec.base import Part, PositiveInt
from builder.spec.data import Data, DataName

Patterns = Annotated[list[str], Field(min_length=1)]
"""Glob patterns, of which each must match something in the program."""


class CompressionStep(Part):
    """What a step applies to: all, or what `op_types` and `names` choose, without the exceptions."""

    op_types: Patterns | None = None
    """Glob patterns of MIL operator types that are compressed, such as `conv*`; all unless given."""
    names: Patterns | None = None
    """Glob patterns of names of operators or of their weights, such as `*classifier*`; all unless given."""
    except_op_types: Patterns | None = None
    """Glob patterns of MIL operator types that stay as they are."""
    except_names: Patterns | None = None
    """Glob patterns of names of operators or weights that stay as they are."""


class WeightStep(CompressionStep):
    """A step that compresses weights."""

    weight_threshold: PositiveInt = 2048
    """Weights with this many elements or fewer are left alone."""


class LinearQuantize(WeightStep):
    """Integers with a linear scale."""

    kind: Literal["linear_quantize"]
    dtype: Literal["int8", "int4", "uint8", "uint4"] = "int8"
    mode: Literal["linear_symmetric", "linear"] = "linear_symmetric"
    """`linear_symmetric` covers [-max, max], `linear` covers [min, max] with a zero point."""
    granularity: Literal["per_tensor", "per_channel", "per_block"] = "per_channel"
    """How much shares one scale: a weight, an output channel, or a block of `block_size` input channels."""
    block_size: PositiveInt | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2)] | None = None
    """With `per_block`: the input channels of a block (32 unless given), or its size on each axis (0: all of it)."""


class Palettize(WeightStep):
    """Indices into a table of `2**nbits` values."""

    kind: Literal["palettize"]
    nbits: Literal[1, 2, 3, 4, 6, 8] | None = 6
    """Bits of an index; `unique` finds out itself."""
    mode: Literal["kmeans", "uniform", "unique"] = "kmeans"
    """How the table is made; `unique` stores weights that have at most 256 different values without any loss."""
    granularity: Literal["per_tensor", "per_grouped_channel"] = "per_tensor"
    """How much shares one table: a weight, or `group_size` of its channels."""
    group_size: PositiveInt | None = None
    """With `per_grouped_channel`: channels that share a table, 32 unless given."""
    channel_axis: Literal[0, 1] | None = None
    """With `per_grouped_channel`: the axis of the groups; that of the output channels unless given."""
    cluster_dim: PositiveInt = 1
    """Neighbouring weights along the output channels that one entry of the table holds (vector palettization)."""
    enable_per_channel_scale: bool = False
    """Whether weights are scaled to a magnitude of 1 over the output channels before the table is made."""


class Prune(WeightStep):
    """The smallest weights become zero and are stored sparsely; by target_sparsity, n_m_ratio or threshold."""

    kind: Literal["prune"]
    target_sparsity: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The share of each weight that becomes zero."""
    n_m_ratio: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = None
    """`[n, m]`: of every m neighbours along `dim`, the n smallest become zero."""
    threshold: Annotated[float, Field(gt=0)] | None = None
    """Values up to this magnitude become zero."""
    minimum_sparsity: Annotated[float, Field(ge=0, le=1)] | None = None
    """With `threshold`: a weight of which a smaller share would be zero stays as it is; 0.5 unless given."""
    block_size: Annotated[int, Field(ge=2)] | None = None
    """With `target_sparsity`: zeros come in blocks of this many neighbours along `dim`."""
    dim: Literal[0, 1] | None = None
    """The axis of blocks (0 unless given: output channels) or of n:m (1 unless given: input channels)."""


class QuantizeActivations(CompressionStep):
    """The values between operators as 8-bit integers, on scales that calibration data gives (iOS 17).

    Together with `linear_quantize` this is W8A8. It is for conv, linear, add and pooling, as coremltools has it.
    """

    kind: Literal["quantize_activations"]
    data: DataName | Data
    """What the scales are measured on, in place or by its name under `data`: like what the app will give."""
    samples: PositiveInt | None = None
    """How many samples to take; all unless given (8 of what has no end)."""
    mode: Literal["linear_symmetric", "linear"] = "linear_symmetric"
    """`linear_symmetric` covers [-max, max], `linear` covers [min, max] with a zero point."""


class AutoCompression(Part):
    """The smallest artifact that passes all checks: a method for each layer, found by measuring; no step beside it.

    What is found are steps with `names`; they stand in the record, and as a recipe beside the artifact.
    """

    kind: Literal["auto"]
    max_bytes: PositiveInt | None = None
    """Instead: the artifact of at most this many bytes with the highest SNR in the parity checks."""
    weight_threshold: PositiveInt = 2048
    """Weights with this many elements or fewer are left alone."""


WeightCompression = LinearQuantize | Palettize | Prune
"""The steps that make weights smaller."""

ProgramCompression = WeightCompression | QuantizeActivations
"""The steps that change the converted program."""
