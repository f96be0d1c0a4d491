"""What a step may ask for beside the model: samples as the model itself takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from builder.artifacts.stages import Sample
from builder.spec.data import Data

Returned = tuple[torch.Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a step may ask for. A sample is what the app gives; the model is called as a deployed one calls it."""

    key: str
    """The dotted key of the step in the recipe."""
    draw: Callable[[Data, int | None], Sequence[Sample]]
    """Takes data and how many samples of it; None is all."""
    call: Callable[[nn.Module, Sample], Returned]
    """Runs a model on one sample, normalised as declared; returns its outputs before any softmax, flattened."""
    arguments: Callable[[nn.Module, Sample], tuple[Any, ...]]
    """The positional arguments that the model gets for a sample."""
    example: Sample
    """The sample that will be traced."""
    is_classifier: bool
    seed: int

    def samples(self, data: Data | str, count: int | None) -> list[Sample]:
        """The samples of a step's data."""
        assert not isinstance(data, str), "named data stands in the places that refer to it"
        return list(self.draw(data, count))

    def returned(self, model: nn.Module, sample: Sample) -> Returned:
        """What the model returns for a sample, flattened."""
        return self.call(model, sample)
