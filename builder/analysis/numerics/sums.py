"""Sums over samples: signal and noise of a value, and how far its magnitudes reach."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from builder.analysis.numerics.findings import Range
from builder.util.measures import HALF_MAX, HALF_SMALLEST

_VANISHES = 2.0**-25
"""Half of the smallest denormal: up to here values round to zero."""


@dataclass(kw_only=True)
class NoiseSum:
    """Energy of a signal and of what was added to it."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, expected: torch.Tensor, got: torch.Tensor) -> None:
        """Count one sample; what is not finite in the original is left out, any other value without an end is all."""
        expected, got = expected.double(), got.double()
        finite = expected.isfinite()
        self.signal += float(expected[finite].square().sum())
        error = (got - expected)[finite]
        self.noise += float(error.square().sum()) if bool(error.isfinite().all()) else math.inf

    @property
    def ratio(self) -> float:
        """Noise by signal; infinite where there is noise and no signal."""
        if self.noise == 0:
            return 0.0
        return math.inf if self.signal == 0 else self.noise / self.signal


@dataclass(kw_only=True)
class RangeSum:
    """Counts of values by what half precision does to them."""

    largest: float = 0.0
    values: int = 0
    nonzero: int = 0
    overflow: int = 0
    denormal: int = 0
    vanishing: int = 0

    def add(self, values: torch.Tensor) -> None:
        """Count the finite values of one sample: an infinity (of a mask) is meant."""
        sizes = values[values.isfinite()].abs()
        if not sizes.numel():
            return
        self.largest = max(self.largest, float(sizes.max()))
        self.values += sizes.numel()
        self.nonzero += int((sizes > 0).sum())
        self.overflow += int((sizes > HALF_MAX).sum())
        self.denormal += int(((sizes > 0) & (sizes < HALF_SMALLEST)).sum())
        self.vanishing += int(((sizes > 0) & (sizes <= _VANISHES)).sum())

    def range(self) -> Range:
        """The shares."""
        nonzero = max(self.nonzero, 1)
        return Range(
            largest=self.largest,
            overflow=self.overflow / max(self.values, 1),
            denormal=self.denormal / nonzero,
            vanishing=self.vanishing / nonzero,
        )
