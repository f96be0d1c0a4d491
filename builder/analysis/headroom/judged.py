"""What a rule says of one operator that it is about."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from builder.analysis.headroom.program import Program
from builder.artifacts.headroom import HALF_MAX, bits
from coreml_runtime.intervals.visit import Operand, Visit, most

Standing = Literal["seen", "certain", "pattern", "as original", "open", "proven"]
"""It happened on an input; it happens for some input in the domain; the program is written so that it may; it happened,
and in the original as well; nobody knows; it cannot happen for any input in the domain."""

CONFIDENCE: dict[Standing, Literal["measured", "high", "medium", "low"]] = {
    "seen": "measured",
    "certain": "high",
    "pattern": "medium",
    "as original": "low",
}
"""Of what is found; the rest is not."""
HALF_ROUND = 2.0**-6
"""Bounds are rounded outwards: what exceeds a limit by less is not called certain."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One operator."""

    name: str
    operator: str
    standing: Standing
    summary: str = ""


Find = Callable[[Program], Iterator[Judged]]


def judged(visit: Visit, standing: Standing, summary: str = "", *, output: int = 0) -> Judged:
    """The judgement on an operator, by the name of its output."""
    name = visit.outputs[output].name if visit.outputs else visit.operation.name
    return Judged(name=name or visit.operation.name, operator=visit.operation.type, standing=standing, summary=summary)


def beyond(program: Program, operand: Operand, limits: tuple[float, float]) -> tuple[Standing, str]:
    """Whether a value passes limits, and how far it goes."""
    low, high = limits
    values = program.values(operand.name)
    if values is not None and (values.low < low or values.high > high):
        return "seen", f"from {values.low:.4g} to {values.high:.4g}, as seen"
    interval = operand.interval
    inside = interval.least >= low and interval.greatest <= high
    if inside and operand.sure and not interval.nan:
        return "proven", ""
    if not inside and interval.reached and program.is_declared and math.isfinite(interval.magnitude):
        edge = HALF_ROUND * max(abs(low), abs(high))
        if interval.least < low - edge or interval.greatest > high + edge:
            return "certain", f"from {interval.least:.4g} to {interval.greatest:.4g}, for some input"
    return "open", ""


def overflowing(program: Program, visit: Visit, output: Operand) -> Judged:
    """Whether the values of an operator pass what its dtype holds, and by how many bits."""
    limit = most(output.dtype)
    standing, _ = beyond(program, output, (-limit, limit))
    if standing not in ("seen", "certain"):
        return judged(visit, standing)
    values = program.values(output.name)
    if standing == "seen" and values is not None:
        return judged(visit, standing, f"reaches {values.magnitude:.3g}, {_beyond(values.magnitude, limit)}")
    largest = output.interval.magnitude
    return judged(visit, standing, f"reaches {largest:.3g} for some input, {_beyond(largest, limit)}")


def _beyond(largest: float, limit: float) -> str:
    shown = "65504" if limit == HALF_MAX else f"{limit:.3g}"
    return f"{-bits(largest, -largest) if limit == HALF_MAX else math.log2(largest / limit):.1f} bits beyond {shown}"
