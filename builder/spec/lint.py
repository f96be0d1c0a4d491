"""What a recipe accepts of what the Neural Engine lint finds; it is in no key, since it changes no artifact."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from builder.spec.base import Part

RULE_NAMES = (
    "float32",
    "flexible_range",
    "flexible_enumerated",
    "recurrent",
    "rank",
    "rank_above_5",
    "large_dimension",
    "large_kernel",
    "dilated_convolution",
    "convolution_3d",
    "gather",
    "scatter",
    "sort",
    "long_argmax",
    "integer_arithmetic",
    "padding_mode",
    "layout",
    "narrow_last_axis",
    "working_set",
    "custom_layer",
    "broadcastable_layer",
)
"""The rules of `builder.analysis.neural_engine.table`; a test holds them equal."""


def _rule(name: str) -> str:
    if name not in RULE_NAMES:
        raise ValueError(f"must be one of {', '.join(RULE_NAMES)}")
    return name


def _reason(text: str) -> str:
    if not text.strip():
        raise ValueError("must say why this is accepted")
    return text


class Lint(Part):
    """The Neural Engine lint, whose findings are in every report (docs/reference/lint.md)."""

    ignore: dict[Annotated[str, AfterValidator(_rule)], Annotated[str, AfterValidator(_reason)]] = {}
    """By rule, the reason why what it finds is accepted."""
