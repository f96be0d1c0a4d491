"""What capture and parity share: many samples compared output by output, and judged by limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from builder.artifacts import CheckReport
from builder.checks.limits import SOUND
from builder.spec.base import Limit
from builder.util.measures import compare, count_nan, count_overflow, why_meaningless

Outputs = Mapping[str, torch.Tensor]
"""By output name, the values for one sample."""


def judge(
    *,
    name: str,
    kind: str,
    engine: str,
    references: Sequence[Outputs],
    results: Sequence[Outputs],
    scores: str | None,
    limits: Mapping[str, Limit],
) -> CheckReport:
    """Compare sample by sample, take the worst of each measure for each output, and hold it against the limits.

    `scores` names the output whose largest value along the last axis is the best class, if any. An output whose
    reference proves nothing is left out of the verdict; where all are, `passed` is None.
    """
    values = measure(references, results, scores)
    reasons, failures = [], []
    enforced = {**SOUND, **limits}
    for output, measured in values.items():
        expected = [r[output] for r in references]
        got = [r[output] for r in results]
        if reason := measured.get("not_meaningful"):
            reasons.append(f"{output}: {reason}")
            continue
        lost = None if enforced["nan_count"].holds(measured.get("nan_count", 0)) else _lost(output, expected, got)
        if lost is not None:
            failures.append(lost)
            continue
        failures += [
            f"{output}: {measure} is {measured[measure]:.4g}, and the limit is {describe(limit)}"
            for measure, limit in enforced.items()
            if measure in measured and _applies(measure, expected[0]) and not limit.holds(measured[measure])
        ]
    passed: bool | None = not failures
    reason = "; ".join(failures) or None
    if not failures and len(reasons) == len(references[0]):
        passed, reason = None, "not meaningful: " + "; ".join(reasons)
    elif not failures and not limits:
        passed, reason = None, f"no limit is known for this compression; say one, such as checks.{name}.snr_db.min"
    elif not failures and reasons:
        reason = "not meaningful for " + "; ".join(reasons)
    return CheckReport(
        name=name,
        kind=kind,
        engine=engine,
        values=values,
        limits={measure: limit.model_dump(exclude_none=True) for measure, limit in enforced.items()},
        passed=passed,
        reason=reason,
        samples=len(references),
    )


def measure(references: Sequence[Outputs], results: Sequence[Outputs], scores: str | None) -> dict[str, dict[str, Any]]:
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


def _lost(output: str, expected: Sequence[torch.Tensor], got: Sequence[torch.Tensor]) -> str | None:
    """Say how much of an output is NaN where the original has numbers: what else is measured only follows from it."""
    lost = [int((torch.isnan(b) & ~torch.isnan(a)).sum()) for a, b in zip(expected, got, strict=True)]
    if not sum(lost):
        return None
    whole, samples = sum(a.numel() for a in expected), sum(count > 0 for count in lost)
    where = f"in {samples} of {len(got)} samples"
    return f"{output}: {sum(lost)} of {whole} values are NaN where the original has numbers, {where}"


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


def _agreement(expected: Sequence[torch.Tensor], got: Sequence[torch.Tensor]) -> dict[str, Any]:
    """How many integers are the same, and how far the others are."""
    pairs = [(a.to(torch.float64), b.to(torch.float64)) for a, b in zip(expected, got, strict=True)]
    return {
        "agreement": min(float((a == b).double().mean()) for a, b in pairs),
        "max_abs": max(float((a - b).abs().max()) for a, b in pairs),
    }


def _worst(expected: Sequence[torch.Tensor], got: Sequence[torch.Tensor]) -> dict[str, Any]:
    for reference, result in zip(expected, got, strict=True):
        if reference.shape != result.shape:
            nothing = math.nan
            shapes = f"shape {tuple(result.shape)} instead of {tuple(reference.shape)}"
            return {
                "max_abs": nothing,
                "relative_error": nothing,
                "snr_db": nothing,
                "psnr_db": nothing,
                "cosine": nothing,
                "agreement": nothing,
                "shape": shapes,
            }
    if not expected[0].is_floating_point():
        return _agreement(expected, got)
    differences = [compare(a, b) for a, b in zip(expected, got, strict=True)]
    return {
        "max_abs": _extreme(max, [d.max_abs for d in differences]),
        "relative_error": _extreme(max, [d.relative_error for d in differences]),
        "snr_db": _extreme(min, [d.snr_db for d in differences]),
        "psnr_db": _extreme(min, [d.psnr_db for d in differences]),
        "cosine": _extreme(min, [d.cosine for d in differences]),
        "nan_count": sum(count_nan(result) for result in got),
        "overflow_count": sum(count_overflow(result) for result in got),
    }


def _extreme(pick: Any, values: list[float]) -> float:
    """The largest or smallest value, or NaN if any is NaN."""
    return math.nan if any(v != v for v in values) else float(pick(values))
