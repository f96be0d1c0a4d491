"""Headroom as lines for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from builder.artifacts.headroom import Headroom, OperatorRange, Statement

SHOWN = 3
"""So many operators are shown, those with the least headroom."""


def format_headroom(headroom: Headroom, *, shown: int = SHOWN) -> list[str]:
    """What inputs were taken to be, what each rule says, and where values are largest."""
    of = f" of function {headroom.function}" if headroom.function else ""
    if headroom.not_analysed:
        return [f"numbers{of}: not analysed: {headroom.not_analysed}"]
    seen = f"; seen on {headroom.seen_on}" if headroom.seen_on else ""
    lines = [f"numbers{of}, for inputs {'; '.join(headroom.domain) or 'of any value'}{seen}"]
    lines += [f"    {statement(each)}" for each in headroom.statements]
    half = headroom.tightest
    if half:
        lines.append(f"    least headroom of {len(half)} operators in half precision:")
        lines += [f"        {line(each)}" for each in half[:shown]]
    return lines


def statement(summary: Statement) -> str:
    """One rule's: found, proven, or neither."""
    about = f"{summary.sites} operator{'s' if summary.sites != 1 else ''}"
    if summary.found:
        return f"{summary.rule}: found at {summary.found} of {about}"
    if summary.proven == summary.sites:
        return f"{summary.rule}: proven not to happen at {about}"
    if not summary.proven:
        return f"{summary.rule}: not seen at {about}"
    return f"{summary.rule}: proven not to happen at {summary.proven} of {about}, not seen at the others"


def line(each: OperatorRange) -> str:
    """One operator with its headroom."""
    return f"{name(each)}: {'; '.join(_bits(each))}"


def name(each: OperatorRange) -> str:
    """An operator with where it comes from."""
    place = f" of {each.module}" if each.module else ""
    return f"{each.name} ({each.operator}){place}" + (f" ({each.line})" if each.line else "")


def _bits(each: OperatorRange) -> Iterator[str]:
    if each.bits is not None:
        yield f"{amount(each.bits)} as seen, {each.seen_low:.5g} to {each.seen_high:.5g}"
    if each.sure_bits is None:
        yield "no bounds are known"
    else:
        yield f"{amount(each.sure_bits)} {'proven' if each.proven else 'by its bounds'}"


def amount(bits: float) -> str:
    """So many bits below 65504, or beyond."""
    if math.isinf(bits):
        return "all bits (zero)"
    return f"{bits:.1f} bits" if bits >= 0 else f"{-bits:.1f} bits beyond 65504"


def worst_line(headrooms: Sequence[Headroom]) -> str | None:
    """The operator that passes what half precision holds by most, where one was seen to; None where none was."""
    beyond = [each for found in headrooms for each in found.tightest if each.bits is not None and each.bits < 0]
    if not beyond:
        return None
    worst = min(beyond, key=lambda each: each.bits or 0.0)
    first = beyond_first(headrooms)
    begins = f"; it begins at {name(first)}" if first is not None and first.name != worst.name else ""
    return f"{name(worst)} passes what half precision holds: {amount(worst.bits or 0.0)}{begins}"


def beyond_first(headrooms: Sequence[Headroom]) -> OperatorRange | None:
    """The first operator of the program that was seen to pass what half precision holds."""
    for found in headrooms:
        for each in found.operators:
            if each.dtype == "fp16" and each.bits is not None and each.bits < 0:
                return each
    return None
