"""What a recipe accepts of what the Neural Engine lint finds; it is in no key, since it changes no artifact."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from builder.analysis.neural_engine.table import RULES
from builder.spec.base import Part


def _rule(name: str) -> str:
    if name not in RULES:
        raise ValueError(f"must be one of {', '.join(RULES)}")
    return name


def _reason(text: str) -> str:
    if not text.strip():
        raise ValueError("must say why this is accepted")
    return text


class Lint(Part):
    """The Neural Engine lint, whose findings are in every report (docs/reference/lint.md)."""

    ignore: dict[Annotated[str, AfterValidator(_rule)], Annotated[str, AfterValidator(_reason)]] = {}
    """By rule, the reason why what it finds is accepted."""
