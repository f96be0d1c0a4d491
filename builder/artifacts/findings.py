"""What the lint finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class LintFinding:
    """What one rule of the lint found in the artifact."""

    rule: str
    confidence: Literal["measured", "high", "medium", "low"]
    """`high`, `medium` or `low`; `measured` where Core ML's own compute plan says it, or it was seen."""
    count: int
    examples: tuple[str, ...]
    advice: str
    sources: tuple[str, ...]
    ignored: str | None = None
    """The recipe's reason why this is accepted."""
    share: float | None = None
    """The share of the artifact's multiply-accumulates in these operators; None where that is not known."""
