"""What a recipe accepts of what the lint finds; it is in no key, since it changes no artifact."""

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
    "half_overflow",
    "half_underflow",
    "exp_overflow",
    "cancellation",
    "log_of_softmax",
    "half_constant",
    "integer_in_float",
    "integer_cut",
    "saturating_cast",
    "counter_stops",
    "zero_division",
)
"""The rules of both tables, `builder.analysis.neural_engine` and `.headroom`; a test holds them equal."""


def _rule(name: str) -> str:
    if name not in RULE_NAMES:
        raise ValueError(f"must be one of {', '.join(RULE_NAMES)}")
    return name


def _reason(text: str) -> str:
    if not text.strip():
        raise ValueError("must say why this is accepted")
    return text


class Lint(Part):
    """The lint of the Neural Engine and of numbers, whose findings are in every report (docs/reference/lint.md)."""

    ignore: dict[Annotated[str, AfterValidator(_rule)], Annotated[str, AfterValidator(_reason)]] = {}
    """By rule, the reason why what it finds is accepted."""
