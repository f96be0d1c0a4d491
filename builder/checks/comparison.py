"""What capture and parity share: many samples compared output by output, and judged by limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from builder.artifacts.checks import CheckReport
from builder.artifacts.effects import numbers_of
from builder.checks.certainty import BESIDE, Pairs, sample_agreement, sure_agreement, sure_snr, worst_first
from builder.checks.limits import NO_SCALE, SOUND
from builder.spec.base import Limit
from builder.util.measures import (
    HALF_SMALLEST,
    compare,
    count_nan,
    count_overflow,
    typical_size,
    where_finite,
    why_meaningless,
)

if TYPE_CHECKING:
    from builder.artifacts.stages import Measure, Measures

Outputs = Mapping[str, torch.Tensor]
"""By output name, the values for one sample."""
OtherOutputs = Callable[[int], Sequence[Outputs]]
"""From the number of a sample to what the original answers for it where its rounding falls otherwise."""

Further = Callable[[int], Iterable[Outputs]]
"""Likewise where inputs and weights are rounded as the artifact rounds them: of integers that says which of values that
nearly tie is taken."""

FAR_DB = 30.0
"""An uncertainty that is so far below a difference is not part of what is said of it."""


def judge(
    *,
    name: str,
    kind: str,
    engine: str,
    references: Sequence[Outputs],
    results: Sequence[Outputs],
    scores: str | None,
    limits: Mapping[str, Limit],
    others: OtherOutputs | None = None,
    further: Further | None = None,
    rounded: Collection[str] = ("agreement",),
    given: Collection[str] = (),
    half: bool = False,
) -> CheckReport:
    """Compare sample by sample, take the worst of each measure for each output, and hold it against the limits.

    `scores` names the output whose largest value along the last axis is the best class, if any. `others` gives what
    the original answers where its rounding falls otherwise, and `further` with the artifact's rounding, which counts
    for the measures in `rounded`; they are asked where a limit is missed, and what the original is not sure of itself
    is not an error then. `given` are the measures whose limits the recipe gives: they are held as they are. `half` says
    that the artifact computes in half precision or with compressed weights. An output whose reference proves nothing
    cannot pass; where all are such, `passed` is None.
    """
    values = measure(references, results, scores)
    enforced = {**SOUND, **limits}
    reasons: list[str] = []
    failures: list[str] = []
    notes: list[str] = []
    failed_on: dict[str, tuple[int, ...]] = {}
    for output, measured in values.items():
        pairs = [(reference[output], result[output]) for reference, result in zip(references, results, strict=True)]
        missed = _missed(output, measured, pairs, enforced)
        asked = missed.keys() & BESIDE.keys() - set(given)
        if asked and others is not None:
            for each in sorted(asked):
                beyond = further if each in rounded else None
                measured |= _beside(each, pairs, partial(_others_of, others, beyond, output), enforced[each])
                notes += _certainty(output, measured, each)
            missed = _missed(output, measured, pairs, enforced)
        if missed and half and (reason := _why_below_half(pairs)):
            measured["not_meaningful"] = reason
        proves_nothing = measured.get("not_meaningful")
        if missed and not (proves_nothing and _is_nothing(pairs)):
            failures += missed.values()
            failed_on[output] = worst_first(pairs)
        elif proves_nothing:
            reasons.append(f"{output}: {proves_nothing}")
    passed: bool | None = not failures
    reason = "; ".join(failures + notes) or None
    if not failures and len(reasons) == len(references[0]):
        passed, reason = None, "not meaningful: " + "; ".join(reasons)
    elif not failures and not limits:
        passed, reason = None, f"no limit is known for this compression; say one, such as checks.{name}.snr_db.min"
    elif not failures and reasons:
        reason = "; ".join(["not meaningful for " + "; ".join(reasons), *notes])
    return CheckReport(
        name=name,
        kind=kind,
        engine=engine,
        values=values,
        limits={measure: limit.model_dump(exclude_none=True) for measure, limit in enforced.items()},
        passed=passed,
        reason=reason,
        samples=len(references),
        failed_on=failed_on,
    )


def _others_of(others: OtherOutputs, further: Further | None, output: str, sample: int) -> Iterator[torch.Tensor]:
    for answer in others(sample):
        yield answer[output]
    for answer in further(sample) if further is not None else ():
        yield answer[output]


def _beside(
    measure: str, pairs: Pairs, others: Callable[[int], Iterator[torch.Tensor]], limit: Limit
) -> dict[str, Measure]:
    return (sure_snr if measure == "snr_db" else sure_agreement)(pairs, others, limit)


def _missed(output: str, measured: Measures, pairs: Pairs, limits: Mapping[str, Limit]) -> dict[str, str]:
    """By measure, what to say of each limit that is missed; where values are lost, of that alone."""
    if "shape" in measured:
        return {"shape": f"{output}: {measured['shape']}"}
    numbers = numbers_of(measured)
    if not limits["nan_count"].holds(numbers.get("nan_count", 0)):
        return {"nan_count": _lost(output, pairs, torch.isnan, "NaN")}
    if numbers.get("lost_count", 0):
        return {"lost_count": _lost(output, pairs, torch.isinf, "infinite")}
    missed = {}
    for measure, limit in limits.items():
        value = numbers.get(BESIDE.get(measure, measure), numbers.get(measure))
        if value is not None and _applies(measure, pairs[0][0]) and not limit.holds(value):
            missed[measure] = f"{output}: {measure} is {value:.4g}, and the limit is {describe(limit)}"
    return missed


def _certainty(output: str, measured: Measures, measure: str) -> list[str]:
    """What the original is sure of, for people; nothing where it is sure of far more than the difference."""
    own_name = {"snr_db": "own_snr_db", "agreement": "own_agreement"}[measure]
    numbers = numbers_of(measured)
    own, found = numbers[own_name], numbers[measure]
    if own >= (1.0 if measure == "agreement" else found + FAR_DB):
        return []
    shown = f"{own:.4g}" if measure == "agreement" else f"{own:.1f} dB"
    return [f"{output}: the original, computed with other rounding, has {measure} {shown} against itself"]


def measure(
    references: Sequence[Outputs], results: Sequence[Outputs], scores: str | None
) -> dict[str, dict[str, Measure]]:
    """By output, the worst of each measure over all samples, and why they prove nothing (`not_meaningful`) if so.

    `scores` names the output whose largest value along the last axis is the best class, if any.
    """
    values = {}
    for output in references[0]:
        expected = [r[output] for r in references]
        got = [r[output] for r in results]
        measured = values[output] = _worst(expected, got)
        if output == scores:
            same = [bool(torch.equal(a.argmax(-1), b.argmax(-1))) for a, b in zip(expected, got, strict=True)]
            measured["top1_agreement"] = sum(same) / len(same)
            near = [is_near(a, b) for a, b in zip(expected, got, strict=True)]
            measured["top5_agreement"] = sum(near) / len(near)
        if reason := why_meaningless(expected):
            measured["not_meaningful"] = reason
    return values


def _is_nothing(pairs: Pairs) -> bool:
    """Whether the original is nearly zero for every sample, and the artifact about as near: no scale says how much."""
    if any(reference.shape != result.shape for reference, result in pairs):
        return False
    kept = [where_finite(reference, result) for reference, result in pairs]
    small = typical_size([reference for reference, _ in pairs]) < HALF_SMALLEST
    return small and all(np.abs(b - a).max(initial=0.0) < NO_SCALE for a, b in kept)


def _why_below_half(pairs: Pairs) -> str | None:
    """Say so where an output is as small on all samples as half precision holds with fewer and fewer bits."""
    size = typical_size([reference for reference, _ in pairs])
    if not pairs[0][0].is_floating_point() or size >= HALF_SMALLEST:
        return None
    return f"the original's output is nearly zero on all samples (values of {size:.2g}; half is whole from 6e-05 on)"


def _lost(output: str, pairs: Pairs, is_lost: Callable[[torch.Tensor], torch.Tensor], what: str) -> str:
    """Say how much of an output is NaN or infinite where the original has numbers: all else only follows from it."""
    lost = [int((is_lost(result) & reference.isfinite()).sum()) for reference, result in pairs]
    whole, samples = sum(reference.numel() for reference, _ in pairs), sum(count > 0 for count in lost)
    where = f"in {samples} of {len(pairs)} samples"
    return f"{output}: {sum(lost)} of {whole} values are {what} where the original has numbers, {where}"


def is_near(reference: torch.Tensor, result: torch.Tensor) -> bool:
    """Whether the best class of `reference`, along the last axis, is everywhere among the five best of `result`."""
    best = result.topk(min(5, result.shape[-1]), dim=-1).indices
    return bool((best == reference.argmax(-1, keepdim=True)).any(-1).all())


def describe(limit: Limit) -> str:
    """A limit for people: `at least 40`, `at most 0.1`, or both."""
    low = [] if limit.min is None else [f"at least {limit.min:g}"]
    high = [] if limit.max is None else [f"at most {limit.max:g}"]
    return " and ".join([*low, *high])


ALWAYS = ("max_abs", "top1_agreement")
"""The measures that floats and integers share."""


def _applies(measure: str, output: torch.Tensor) -> bool:
    """Whether a limit on `measure` is meant for an output: integers (classes, ids) agree or not, floats by how much."""
    return measure in ALWAYS or (measure == "agreement") != output.is_floating_point()


def _agreement(pairs: Pairs) -> dict[str, Measure]:
    """How many integers are the same, and how far the others are."""
    return {
        "agreement": min(sample_agreement(pairs)),
        "max_abs": max(float((a.double() - b.double()).abs().max()) if a.numel() else 0.0 for a, b in pairs),
    }


_NOT_COMPARED = ("max_abs", "relative_error", "snr_db", "psnr_db", "cosine", "agreement")


def _worst(expected: Sequence[torch.Tensor], got: Sequence[torch.Tensor]) -> dict[str, Measure]:
    for reference, result in zip(expected, got, strict=True):
        if reference.shape != result.shape:
            shapes = f"shape {tuple(result.shape)} instead of {tuple(reference.shape)}"
            return {**dict.fromkeys(_NOT_COMPARED, math.nan), "shape": shapes}
    if not expected[0].is_floating_point():
        return _agreement(list(zip(expected, got, strict=True)))
    size = typical_size(expected)
    pairs = [where_finite(reference, result) for reference, result in zip(expected, got, strict=True)]
    differences = [compare(a, b, size=size) for a, b in pairs]
    full = [d.cosine for d, (a, _) in zip(differences, pairs, strict=True) if float(np.square(a).sum()) >= size**2]
    measured: dict[str, Measure] = {
        "max_abs": _extreme(max, [d.max_abs for d in differences]),
        "relative_error": _extreme(max, [d.relative_error for d in differences]),
        "snr_db": _extreme(min, [d.snr_db for d in differences]),
        "psnr_db": _extreme(min, [d.psnr_db for d in differences]),
        "cosine": _extreme(min, full or [d.cosine for d in differences]),  # a vector of nothing has no direction
        "nan_count": sum(count_nan(result) for _, result in pairs),
        "overflow_count": sum(count_overflow(result) for _, result in pairs),
    }
    lost = sum(int(np.isinf(result).sum()) for _, result in pairs)
    return {**measured, "lost_count": lost} if lost else measured


def _extreme(pick: Callable[[list[float]], float], values: list[float]) -> float:
    """The largest or smallest value, or NaN if any is NaN."""
    return math.nan if any(v != v for v in values) else float(pick(values))
