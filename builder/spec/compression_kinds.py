"""Every kind of compression step, with one object that answers what is asked of it.

To add a kind: one file with its settings and its function, one entry in `COMPRESSIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.spec.base import Part
from builder.spec.compression import AutoCompression, LinearQuantize, Palettize, Prune, QuantizeActivations
from builder.spec.kinds import kind_of_settings, name_of, table, union
from builder.spec.module_compression import (
    Gptq,
    MagnitudePrune,
    PostTrainingPalettize,
    PostTrainingQuantize,
    QuantizationAwareTraining,
    SensitiveKmeans,
)


@dataclass(frozen=True, kw_only=True)
class CompressionKind:
    """One way to make weights, or the values between operators, smaller."""

    settings: type[Part]
    """What a recipe says of it; its `kind` is the name."""
    passes: str | None = None
    """`package.module:function`: from settings and `further=` to coremltools' passes, for weights of a program."""
    method: str | None = None
    """`package.module:NAME` of the `module_compression.method.Method` that changes the PyTorch model."""
    minimum_generation: Callable[[Any], int] = lambda step: 16  # noqa: ARG005 - of any step
    """The iOS release whose ML programs can hold what it makes (coremltools' `constexpr_*` operators)."""
    bits: Callable[[Any], int] = lambda step: 0  # noqa: ARG005 - of any step
    """How many bits each weight keeps; 0 where that says nothing about the result."""
    is_open: bool = False
    """Whether it leaves open what is done."""

    @property
    def name(self) -> str:
        """What a recipe writes as `kind`."""
        return name_of(self.settings)

    @property
    def changes_module(self) -> bool:
        """Whether it changes the PyTorch model, before it is captured."""
        return self.method is not None

    @property
    def changes_program(self) -> bool:
        """Whether it changes the converted program."""
        return not self.changes_module and not self.is_open


def _bits_of_dtype(step: LinearQuantize | PostTrainingQuantize) -> int:
    return int(step.dtype.removeprefix("u").removeprefix("int"))


def _bits_of_table(step: Palettize) -> int:
    return (16 if step.mode == "unique" else step.nbits or 0) // step.cluster_dim


def _for_integers(step: LinearQuantize) -> int:
    return 18 if step.dtype in ("int4", "uint4") or step.granularity == "per_block" else 16


def _for_tables(step: Palettize) -> int:
    newer = step.granularity != "per_tensor" or step.nbits == 3 or step.cluster_dim > 1
    return 18 if newer or step.enable_per_channel_scale else 16


def _for_tables_of_modules(step: PostTrainingPalettize | SensitiveKmeans) -> int:
    return 18 if step.nbits == 3 or step.granularity != "per_tensor" else 16


_PROGRAM = "builder.backends.coreml.compression"
_MODULE = "builder.backends.coreml.module_compression"

COMPRESSIONS = table(
    CompressionKind(
        settings=LinearQuantize,
        passes=f"{_PROGRAM}.linear_quantize:linear_quantize_passes",
        minimum_generation=_for_integers,
        bits=_bits_of_dtype,
    ),
    CompressionKind(
        settings=Palettize,
        passes=f"{_PROGRAM}.palettize:palettize_passes",
        minimum_generation=_for_tables,
        bits=_bits_of_table,
    ),
    CompressionKind(settings=Prune, passes=f"{_PROGRAM}.prune:prune_passes"),
    CompressionKind(settings=QuantizeActivations, minimum_generation=lambda step: 17),  # noqa: ARG005 - of any step
    CompressionKind(
        settings=PostTrainingQuantize,
        method=f"{_MODULE}.integers:QUANTIZE",
        bits=_bits_of_dtype,
        minimum_generation=lambda step: 18 if step.dtype == "int4" or step.granularity == "per_block" else 16,
    ),
    CompressionKind(
        settings=PostTrainingPalettize,
        method=f"{_MODULE}.tables:PALETTIZE",
        bits=lambda step: step.nbits,
        minimum_generation=_for_tables_of_modules,
    ),
    CompressionKind(
        settings=SensitiveKmeans,
        method=f"{_MODULE}.tables:PALETTIZE_BY_LOSS",
        bits=lambda step: step.nbits,
        minimum_generation=_for_tables_of_modules,
    ),
    CompressionKind(
        settings=Gptq,
        method=f"{_MODULE}.integers:QUANTIZE_BY_GPTQ",
        bits=lambda step: step.nbits,
        minimum_generation=lambda step: 18 if step.nbits != 8 or step.granularity == "per_block" else 16,
    ),
    CompressionKind(settings=MagnitudePrune, method=f"{_MODULE}.trained:PRUNE"),
    CompressionKind(
        settings=QuantizationAwareTraining,
        method=f"{_MODULE}.trained:TRAIN_QUANTIZED",
        minimum_generation=lambda step: 18 if step.weight_dtype == "int4" else 17,
    ),
    CompressionKind(settings=AutoCompression, is_open=True),
)

if TYPE_CHECKING:
    Compression = (
        LinearQuantize
        | Palettize
        | Prune
        | QuantizeActivations
        | PostTrainingQuantize
        | PostTrainingPalettize
        | SensitiveKmeans
        | Gptq
        | MagnitudePrune
        | QuantizationAwareTraining
        | AutoCompression
    )
else:
    Compression = union(COMPRESSIONS)


def compression_kind(step: Part) -> CompressionKind:
    """The kind of these settings."""
    return kind_of_settings(COMPRESSIONS, step)
