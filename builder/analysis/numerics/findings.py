"""What a look at an artifact finds: suspects, each with the error that it adds and the values that it saw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from builder.artifacts.headroom import Headroom

Kind = Literal["operator", "substitution", "conversion"]


@dataclass(frozen=True, kw_only=True)
class Range:
    """The values of one operator in float32, over all samples, against what half precision holds."""

    largest: float
    """The largest magnitude."""
    overflow: float
    """The share of values beyond 65504, which become infinite."""
    denormal: float
    """The share of values, of those that are not zero, below 2**-14, which lose bits."""
    vanishing: float
    """The share of values, of those that are not zero, that become zero."""

    @property
    def is_unfit(self) -> bool:
        """Whether half precision cannot hold these values well."""
        return self.overflow > 0 or self.denormal > 0.5


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """Something that adds an error by itself: all else computes as the original does."""

    kind: Kind
    name: str
    """An operator's output in the program, or the substitution in the recipe."""
    noise: float
    """The error that it alone causes at the outputs, as noise by signal (the worst output)."""
    operator: str = ""
    """The operator's type."""
    modules: tuple[str, ...] = ()
    """The paths of the PyTorch modules, where known."""
    own_noise: float | None = None
    """The same ratio at the operator's own output."""
    range: Range | None = None
    remedy: str | None = None
    """What to change, and in the recipe's own words where that is possible."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found, the worst suspect first."""

    noise: float
    """What the whole artifact loses at its outputs against the original, as noise by signal (the worst output)."""
    suspects: tuple[Suspect, ...]
    unfit: tuple[Suspect, ...]
    """Operators whose values half precision cannot hold, whether or not they compute in it."""
    compared: int
    """How many values of the program have a counterpart."""
    unmatched: tuple[str, ...]
    """The values that have none; their error counts for the next value that has one."""
    samples: int
    headroom: Headroom | None = None
    """What is known of all values, whatever error they add."""

    @property
    def worst(self) -> Suspect | None:
        """What adds most, if anything adds an error at all."""
        return self.suspects[0] if self.suspects and self.suspects[0].noise > 0 else None


def ranked(suspects: Sequence[Suspect]) -> tuple[Suspect, ...]:
    """The worst first; of equals the one that computes first."""
    return tuple(sorted(suspects, key=lambda suspect: -suspect.noise))


def decibels(noise: float) -> float:
    """The SNR of a ratio of noise to signal."""
    if noise == 0:
        return math.inf
    return -math.inf if math.isinf(noise) else -10 * math.log10(noise)


def noise_of(snr_db: float | None) -> float:
    """The ratio of noise to signal of an SNR; nothing where there is none, infinite where it is not a number."""
    if snr_db is None:
        return 0.0
    return math.inf if math.isnan(snr_db) else 10 ** (-snr_db / 10)
