"""Named rewrites of the module tree: one file a rewrite, and the function that applies the recipe's in order."""

from __future__ import annotations

from builder.model.substitutions.shapes import Run
from builder.model.substitutions.substitute import substitute

__all__ = ["Run", "substitute"]
