"""What is left of a difference beside the original's own uncertainty: the part that the artifact computes otherwise.

Of floats the norm of a difference counts as far as it is beyond `MULTIPLE` times the norm by which the original's own
answers differ; of integers a value counts that all answers of the original agree on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from builder.spec.base import Limit
from builder.util.measures import MULTIPLE, compare, decibels, typical_size, where_finite

Pairs = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""For each sample an output of the original, and what is compared with it, of the same shape."""

BESIDE = {"snr_db": "sure_snr_db", "agreement": "sure_agreement"}
"""The measures that know of the uncertainty, and how they are called then."""


def sample_snr(pairs: Pairs) -> list[float]:
    """The SNR of each sample in dB, on the scale that the output has over all of them; NaN where a value is lost."""
    size = typical_size([reference for reference, _ in pairs])
    return [compare(*where_finite(reference, result), size=size).snr_db for reference, result in pairs]


def sample_agreement(pairs: Pairs) -> list[float]:
    """The share of equal values of each sample."""
    return [_share(_equal(reference, result)) for reference, result in pairs]


def sure_snr(pairs: Pairs, others: Callable[[int], Sequence[torch.Tensor]], limit: Limit) -> dict[str, float]:
    """`sure_snr_db`, the worst SNR beside the uncertainty, and `own_snr_db`, the original's against itself.

    The original is asked for the samples that miss the limit; the latter is of the one that misses it most.
    """
    size = typical_size([reference for reference, _ in pairs])
    sure, own = [], math.inf
    found = sample_snr(pairs)
    for number in sorted(range(len(pairs)), key=lambda number: _order(found[number])):
        if limit.holds(found[number]):
            sure.append(found[number])
            continue
        reference, result = pairs[number]
        signal, uncertain, left = _beside(reference, result, others(number), size)
        own = decibels(signal, uncertain**2) if not sure else own
        sure.append(decibels(signal, left**2))
    return {"sure_snr_db": min(sure), "own_snr_db": own}


def _beside(
    reference: torch.Tensor, result: torch.Tensor, others: Sequence[torch.Tensor], size: float
) -> tuple[float, float, float]:
    """The energy of the signal, the norm of the uncertainty, and the norm that is left of the difference."""
    kept = torch.isfinite(reference)
    same = [other for other in others if other.shape == reference.shape]
    for other in same:
        kept = kept & torch.isfinite(other)  # the original is not sure whether this is a number at all
    expected, got = (values.double()[kept].numpy() for values in (reference, result))
    uncertain = max((_norm(other.double()[kept].numpy() - expected) for other in same), default=0.0)
    left = max(_norm(got - expected) - MULTIPLE * uncertain, 0.0)
    return max(float(expected @ expected), size**2), uncertain, left


def sure_agreement(pairs: Pairs, others: Callable[[int], Sequence[torch.Tensor]], limit: Limit) -> dict[str, float]:
    """`sure_agreement`, the worst share of equal values where those count that the original is not sure of.

    `own_agreement` is the share that it is sure of, in the sample that misses the limit most.
    """
    found = sample_agreement(pairs)
    sure, own = [], 1.0
    for number in sorted(range(len(pairs)), key=lambda number: found[number]):
        if limit.holds(found[number]):
            sure.append(found[number])
            continue
        reference, result = pairs[number]
        certain = torch.ones_like(reference, dtype=torch.bool)
        for other in others(number):
            if other.shape == reference.shape:
                certain &= _equal(reference, other)
        own = _share(certain) if not sure else own
        sure.append(_share(_equal(reference, result) | ~certain))
    return {"sure_agreement": min(sure), "own_agreement": own}


def worst_first(pairs: Pairs) -> tuple[int, ...]:
    """The numbers of the samples, those first that differ most."""
    if any(reference.shape != result.shape for reference, result in pairs):
        return tuple(number for number, (reference, result) in enumerate(pairs) if reference.shape != result.shape)
    found = sample_snr(pairs) if pairs[0][0].is_floating_point() else sample_agreement(pairs)
    return tuple(sorted(range(len(pairs)), key=lambda number: _order(found[number])))


def _order(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _equal(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.eq(one.double(), other.double())


def _share(equal: torch.Tensor) -> float:
    return float(equal.double().mean()) if equal.numel() else 1.0


def _norm(values: np.ndarray[Any, Any]) -> float:
    return math.sqrt(float(values @ values))
