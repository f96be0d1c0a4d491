"""What is left of a difference beside the original's own uncertainty: the part that the artifact computes otherwise.

Of floats the norm of a difference counts as far as it is beyond `MULTIPLE` times the norm by which the original's own
answers differ; of integers a value that differs by more than as many times what the answers of the original do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from builder.spec.base import Limit
from builder.util.measures import MULTIPLE, compare, decibels, typical_size, where_finite

if TYPE_CHECKING:
    from builder.artifacts.stages import Measure

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


NOTHING_DB = 6.0
"""An original whose answers to one input differ by half of their size says nothing about an artifact."""


def sure_snr(pairs: Pairs, others: Callable[[int], Iterable[torch.Tensor]], limit: Limit) -> dict[str, Measure]:
    """`sure_snr_db`, the worst SNR beside the uncertainty, and `own_snr_db`, the original's against itself.

    The original is asked for the samples that miss the limit, and for no more answers than the limit needs; the latter
    is of the one that misses it most. `not_meaningful` says so where the original is sure of no sample at all.
    """
    size = typical_size([reference for reference, _ in pairs])
    sure, own, surest = [], math.inf, -math.inf
    found = sample_snr(pairs)
    for number in sorted(range(len(pairs)), key=lambda number: _order(found[number])):
        if limit.holds(found[number]):
            sure.append(found[number])
            surest = math.inf
            continue
        beside, certain = _beside(*pairs[number], others(number), size, limit)
        own, surest = certain if not sure else own, max(surest, certain)
        sure.append(beside)
    known: dict[str, Measure] = {"sure_snr_db": min(sure), "own_snr_db": own}
    if surest < NOTHING_DB:
        known["not_meaningful"] = (
            f"the original's own answers to one input differ as much as this ({own:.1f} dB): it may draw random numbers"
        )
    return known


def _beside(
    reference: torch.Tensor, result: torch.Tensor, others: Iterable[torch.Tensor], size: float, limit: Limit
) -> tuple[float, float]:
    """The SNR of what is left of the difference beside the uncertainty, and the original's against itself, in dB."""
    same: list[torch.Tensor] = []
    signal, uncertain, left = _parts(reference, result, same, size)
    for other in others:
        if other.shape != reference.shape:
            continue
        same.append(other)
        signal, uncertain, left = _parts(reference, result, same, size)
        if limit.holds(decibels(signal, left**2)):
            break
    return decibels(signal, left**2), decibels(signal, uncertain**2)


def _parts(
    reference: torch.Tensor, result: torch.Tensor, others: Sequence[torch.Tensor], size: float
) -> tuple[float, float, float]:
    """The energy of the signal, the norm of the uncertainty, and the norm that is left of the difference."""
    kept = torch.isfinite(reference)
    for other in others:
        kept = kept & torch.isfinite(other)  # the original is not sure whether this is a number at all
    expected, got = (values.double()[kept].numpy() for values in (reference, result))
    uncertain = max((_norm(other.double()[kept].numpy() - expected) for other in others), default=0.0)
    left = max(_norm(got - expected) - MULTIPLE * uncertain, 0.0)
    return max(float(expected @ expected), size**2), uncertain, left


def sure_agreement(pairs: Pairs, others: Callable[[int], Iterable[torch.Tensor]], limit: Limit) -> dict[str, Measure]:
    """`sure_agreement`, the worst share of equal values where those count that the original is not sure of.

    `own_agreement` is the share that it is sure of, in the sample that misses the limit most; no more answers are asked
    for than the limit needs.
    """
    found = sample_agreement(pairs)
    sure, own = [], 1.0
    for number in sorted(range(len(pairs)), key=lambda number: found[number]):
        if limit.holds(found[number]):
            sure.append(found[number])
            continue
        share, certain = agreement_beside(*pairs[number], others(number), limit)
        own = certain if not sure else own
        sure.append(share)
    return {"sure_agreement": min(sure), "own_agreement": own}


def agreement_beside(
    reference: torch.Tensor, result: torch.Tensor, others: Iterable[torch.Tensor], limit: Limit | None
) -> tuple[float, float]:
    """The share of values that are right, and the share that the original is sure of.

    Right is what differs by at most `MULTIPLE` times as much as the original's own answers: a count that is not sure of
    its last digit is not any number, and of things that tie both have their numbers among the answers.
    """
    off, allowed = (result.double() - reference.double()).abs(), torch.zeros_like(reference, dtype=torch.float64)
    for other in others:
        if limit is not None and limit.holds(_share(off <= allowed)):
            break
        if other.shape == reference.shape:
            allowed = torch.maximum(allowed, MULTIPLE * (other.double() - reference.double()).abs())
    return _share(off <= allowed), _share(allowed == 0)


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


def _norm(values: np.ndarray) -> float:
    return math.sqrt(float(values @ values))
