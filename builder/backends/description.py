"""What an artifact declares of itself, as plain values, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.artifacts.features import Feature, Interface
from builder.artifacts.record import LayerWeights

SEEDED_KEY = "com.github.builder.seeded"
"""In the artifact's metadata where its weights are untrained."""


@dataclass(frozen=True, kw_only=True)
class ArtifactDescription:
    """What the saved file says; features are dictionaries of name, kind, shape, dtype as in `build.json`."""

    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    labels: tuple[str, ...] | None
    op_counts: Mapping[str, int]
    metadata: Mapping[str, str]
    """Metadata of the user's own."""
    shown: Mapping[str, str]
    """What Xcode shows: author, license, version, description."""
    states: tuple[Feature, ...]
    weights: tuple[LayerWeights, ...]
    """The largest first."""
    functions: Mapping[str, Interface]
    """Of an artifact with several functions: `inputs`, `outputs` and `states` of each; those above are the first's."""
    version: int
    """The specification version of Core ML, from which the oldest system follows; 0 of another format."""
    suppression: Mapping[str, Any] | None
    """Of a detector's last stage: its thresholds, and whether boxes of other classes stay."""


def shown_description(description: str, *, seeded: bool) -> str:
    """The description that Xcode shows: the recipe's, after the truth about weights that fell back."""
    return f"UNTRAINED, seeded weights. {description}".strip() if seeded else description
