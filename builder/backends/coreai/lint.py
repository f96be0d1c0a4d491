"""What probably goes wrong or slow on devices, by Core AI's own trackers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from builder.artifacts import LintFinding
from builder.errors import SourceError
from builder.runtime.coreai.description import Description, describe_asset
from builder.runtime.errors import RuntimeFailure

_TRACKER = "https://github.com/apple/coreai-torch/issues"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Operators that trouble was reported of."""

    operators: frozenset[str]
    what: str
    advice: str
    confidence: Literal["high", "medium", "low"]
    sources: tuple[str, ...]
    half_only: bool = False
    """Whether it is about programs with values in half precision."""


RULES: Mapping[str, Rule] = {
    "coreai_rounding_on_gpu": Rule(
        operators=frozenset({"round", "floor_divide", "broadcasting_floor_divide"}),
        what="was the identity on the GPU where it floors, ceils or truncates",
        advice="keep integers integers up to the end of the model, or run it on the CPU or the Neural Engine",
        confidence="medium",
        sources=(f"{_TRACKER}/10",),
    ),
    "coreai_argmax_in_half": Rule(
        operators=frozenset({"argmax", "topk", "argsort", "sort"}),
        what="chose wrong places on devices, in half precision",
        advice="give the app the scores, or keep the operator in float32 (`precision.fp32_op_types`)",
        confidence="medium",
        sources=(f"{_TRACKER}/116", f"{_TRACKER}/66"),
        half_only=True,
    ),
    "coreai_data_dependent_slice": Rule(
        operators=frozenset({"slice_update"}),
        what="ended the process where its indices are computed",
        advice="write into a state at a place that the app gives, by a scatter",
        confidence="low",
        sources=(f"{_TRACKER}/6",),
    ),
}


def lint(path: Path) -> tuple[LintFinding, ...]:
    """Findings, in the order of the rules. Raises SourceError where the asset cannot be read."""
    try:
        found = describe_asset(path)
    except RuntimeFailure as error:
        raise SourceError(f"the model cannot be read: {error}", code="B0302") from error
    is_half = any(dtype in ("fp16", "float16", "f16") for dtype in found.storage)
    results = []
    for name, rule in RULES.items():
        hits = {op: count for op, count in found.operators.items() if op in rule.operators}
        if hits and (is_half or not rule.half_only):
            results.append(_finding(name, rule, hits))
    return (*results, *_high_ranks(found))


def _finding(name: str, rule: Rule, hits: Mapping[str, int]) -> LintFinding:
    return LintFinding(
        rule=name,
        confidence=rule.confidence,
        count=sum(hits.values()),
        examples=tuple(f"{op} {rule.what}" for op in hits),
        advice=rule.advice,
        sources=rule.sources,
    )


def _high_ranks(found: Description) -> list[LintFinding]:
    """Constants with more axes than the Neural Engine computes with; values between operators are not looked at."""
    high = [each for each in found.constants if len(each.shape) > 5]
    if not high:
        return []
    return [
        LintFinding(
            rule="coreai_high_rank",
            confidence="low",
            count=len(high),
            examples=tuple(f"{each.name} has {len(each.shape)} axes" for each in high[:5]),
            advice="reshape so that no value has more than five axes",
            sources=(f"{_TRACKER}/67",),
        )
    ]
