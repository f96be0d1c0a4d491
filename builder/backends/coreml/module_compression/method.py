"""How a kind of step compresses a PyTorch model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Method:
    """How a kind of step works."""

    apply: Callable[..., nn.Module]
    """Takes a model that it may change, the step, its layers and the context."""
    why_not: Callable[..., str | None]
    """Takes a layer and the step; why the method leaves it alone."""
    folds: bool = True
    """Whether batch norm must be folded first, since folding it later would change what was compressed."""
