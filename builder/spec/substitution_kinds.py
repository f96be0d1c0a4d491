"""Every shipped kind of substitution, with one object that says where it is and what it needs.

To add a kind: one file with its `Entry`, one entry in `SUBSTITUTIONS` (and an option in `conf/substitutions/`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SubstitutionKind:
    """A shipped rewrite of the module tree."""

    name: str
    """What a recipe writes as `kind`."""
    rewrite: str
    """`package.module:NAME` of its `builder.model.substitutions.entry.Entry`."""
    fixes_size: bool = False
    """Whether its result takes inputs of one size only."""


_SHIPPED = "builder.model.substitutions.shipped"

SUBSTITUTIONS = (
    SubstitutionKind(
        name="relu6_to_relu",
        rewrite=f"{_SHIPPED}:RELU6_TO_RELU",
    ),
    SubstitutionKind(
        name="relu6_to_clamp",
        rewrite=f"{_SHIPPED}:RELU6_TO_CLAMP",
    ),
    SubstitutionKind(
        name="hardswish",
        rewrite=f"{_SHIPPED}:HARDSWISH",
    ),
    SubstitutionKind(
        name="hardsigmoid",
        rewrite=f"{_SHIPPED}:HARDSIGMOID",
    ),
    SubstitutionKind(
        name="silu",
        rewrite=f"{_SHIPPED}:SILU",
    ),
    SubstitutionKind(
        name="gelu_to_tanh",
        rewrite=f"{_SHIPPED}:GELU_TO_TANH",
    ),
    SubstitutionKind(
        name="gelu_to_sigmoid",
        rewrite=f"{_SHIPPED}:GELU_TO_SIGMOID",
    ),
    SubstitutionKind(
        name="adaptive_to_fixed_pooling",
        rewrite=f"{_SHIPPED}:ADAPTIVE_TO_FIXED_POOLING",
        fixes_size=True,
    ),
    SubstitutionKind(
        name="upsample_to_matmul",
        rewrite=f"{_SHIPPED}:UPSAMPLE_TO_MATMUL",
        fixes_size=True,
    ),
    SubstitutionKind(
        name="batch_norm_folding",
        rewrite=f"{_SHIPPED}:BATCH_NORM_FOLDING",
    ),
    SubstitutionKind(
        name="dropout_removal",
        rewrite=f"{_SHIPPED}:DROPOUT_REMOVAL",
    ),
    SubstitutionKind(
        name="parametrization_removal",
        rewrite=f"{_SHIPPED}:PARAMETRIZATION_REMOVAL",
    ),
    SubstitutionKind(
        name="layer_norm",
        rewrite=f"{_SHIPPED}:LAYER_NORM",
    ),
    SubstitutionKind(
        name="rms_norm",
        rewrite=f"{_SHIPPED}:RMS_NORM",
    ),
    SubstitutionKind(
        name="multi_head_attention",
        rewrite=f"{_SHIPPED}:MULTI_HEAD_ATTENTION",
    ),
    SubstitutionKind(
        name="linear_to_conv1x1",
        rewrite=f"{_SHIPPED}:LINEAR_TO_CONV1X1",
    ),
)

NAMES = tuple(kind.name for kind in SUBSTITUTIONS)


def substitution_named(name: str) -> SubstitutionKind | None:
    """The shipped kind that a recipe writes so; None for a rewrite of the user's own."""
    return next((kind for kind in SUBSTITUTIONS if kind.name == name), None)
