"""How a PyTorch model is compressed before it is captured: the training-time methods of coremltools.optimize.torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.spec.base import ImportPath, Part, PositiveInt
from builder.spec.data import Data, DataName

Paths = Annotated[list[str], Field(min_length=1)]
"""Glob patterns of module paths, of which each must match a layer."""


class ModuleStep(Part):
    """Which layers a step applies to: all, or those that `modules` choose, without the exceptions."""

    modules: Paths | None = None
    """Glob patterns of paths of PyTorch modules, such as `features.*`; all layers unless given."""
    except_modules: Paths | None = None
    """Glob patterns of paths of layers that stay as they are."""
    weight_threshold: PositiveInt = 2048
    """Layers whose weight has this many elements or fewer are left alone."""


class PostTrainingQuantize(ModuleStep):
    """Integers with a linear scale, by torch (`PostTrainingQuantizer`): needs no data."""

    kind: Literal["post_training_quantize"]
    dtype: Literal["int8", "int4"] = "int8"
    mode: Literal["symmetric", "affine"] = "symmetric"
    """`symmetric` covers [-max, max], `affine` covers [min, max] with a zero point."""
    granularity: Literal["per_tensor", "per_channel", "per_block"] = "per_channel"
    block_size: PositiveInt | None = None
    """With `per_block`: the input channels that share a scale, 32 unless given."""


class PostTrainingPalettize(ModuleStep):
    """Indices into a table of `2**nbits` values, by torch (`PostTrainingPalettizer`): needs no data."""

    kind: Literal["post_training_palettize"]
    nbits: Literal[1, 2, 3, 4, 6, 8] = 4
    granularity: Literal["per_tensor", "per_grouped_channel"] = "per_tensor"
    group_size: PositiveInt | None = None
    """With `per_grouped_channel`: channels that share a table, 32 unless given."""


class SensitiveKmeans(ModuleStep):
    """Tables by k-means that weighs each weight by how much the loss depends on it (`SKMPalettizer`)."""

    kind: Literal["sensitive_kmeans"]
    data: DataName | Data
    """What the loss is computed on, in place or by its name under `data`: like what the app will give."""
    samples: PositiveInt | None = None
    """How many samples to take; all unless given (8 of what has no end)."""
    nbits: Literal[1, 2, 3, 4, 6, 8] = 4
    granularity: Literal["per_tensor", "per_grouped_channel"] = "per_tensor"
    group_size: PositiveInt | None = None
    """With `per_grouped_channel`: channels that share a table, 32 unless given."""
    loss: ImportPath | None = None
    """`function(outputs) -> loss`, from what the model returns for a sample.

    Unless given: the cross entropy of a classifier's scores with its own best class, else the sum of squares.
    """


class Gptq(ModuleStep):
    """Integers, each column rounded so as to make up for the error of those before it (Frantar et al. 2022, GPTQ)."""

    kind: Literal["gptq"]
    data: DataName | Data
    """What passes through the layers, in place or by its name under `data`: like what the app will give."""
    samples: PositiveInt | None = None
    """How many samples to take; all unless given (8 of what has no end)."""
    nbits: Literal[2, 3, 4, 6, 8] = 4
    mode: Literal["symmetric", "affine"] = "symmetric"
    """`symmetric` covers [-max, max], `affine` covers [min, max] with a zero point."""
    granularity: Literal["per_tensor", "per_channel", "per_block"] = "per_channel"
    block_size: PositiveInt | None = None
    """With `per_block`: the input channels that share a scale, 32 unless given."""
    hessian_dampening: Annotated[float, Field(gt=0)] = 0.01
    """What is added to the diagonal of the Hessian, as a share of its mean."""


class MagnitudePrune(ModuleStep):
    """The smallest weights become zero (`MagnitudePruner`), at once or while a function of yours trains the others."""

    kind: Literal["magnitude_prune"]
    target_sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """The share of each weight that becomes zero."""
    n_m_ratio: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = None
    """`[n, m]`: of every m neighbouring input channels, n become zero, whatever target_sparsity says."""
    training: ImportPath | None = None
    """`function(model, step)` that trains `model` in place and calls `step()` after each of its own steps."""
    update_steps: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    """With `training`: at which steps the sparsity grows, from none to its target."""


class QuantizationAwareTraining(ModuleStep):
    """Weights and activations as 8-bit integers that a function of yours trains the model for (`LinearQuantizer`)."""

    kind: Literal["quantization_aware_training"]
    training: ImportPath
    """`function(model, step)` that trains `model` in place and calls `step()` after each of its own steps."""
    mode: Literal["symmetric", "affine"] = "symmetric"
    """`symmetric` covers [-max, max], `affine` covers [min, max] with a zero point."""
    weight_dtype: Literal["int8", "int4"] = "int8"
    activations: bool = True
    """Whether values between layers become 8-bit integers as well."""
    milestones: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=4, max_length=4)] | None = None
    """At which steps to observe ranges, to quantize, to freeze ranges and to freeze batch norm; all on unless given."""


ModuleCompression = (
    PostTrainingQuantize | PostTrainingPalettize | SensitiveKmeans | Gptq | MagnitudePrune | QuantizationAwareTraining
)
"""The steps that change the PyTorch model, before all others."""
