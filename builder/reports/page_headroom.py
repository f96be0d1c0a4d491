"""Headroom on the page: how near the values of each operator come to the end of half precision."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from builder.analysis.headroom.screen import amount, statement
from builder.artifacts.headroom import HALF_MAX, Headroom, OperatorRange
from builder.artifacts.record import BuildRecord
from builder.reports.markup import Content, Markup, code, element, join, section, table
from builder.reports.page_facts import finding_row

COLUMNS = 240
"""Bars of a plot at most; of more operators neighbours share one, which shows the one with the least headroom."""
WORST = 8
"""So many operators are in the table."""
_TOP, _BOTTOM = 24.0, -14.0
"""The ends of the plot as powers of two: 8 bits beyond 65504, and where half precision begins to lose bits."""
_LIMIT = 16.0
_BOUND_HEIGHT = 0.35
_SCALE = (("65504", _LIMIT), ("256", 8.0), ("1", 0.0), ("0.004", -8.0))


def headroom(record: BuildRecord) -> Markup | None:
    """A plot by operator, the operators with the least headroom, and what the rules say, for each function."""
    parts = [part for found in record.headroom for part in _function(record, found)]
    return section("Headroom", *parts) if parts else None


def _function(record: BuildRecord, found: Headroom) -> Iterator[Markup]:
    if found.function:
        yield element("h3", found.function)
    if found.not_analysed:
        yield element("p", f"Not analysed: {found.not_analysed}.", class_="quiet")
        return
    yield element("p", _summary(found))
    yield _plot(found.operators)
    yield _table(found)
    rules = {finding.rule for finding in found.findings}
    rows = [finding_row(finding) for finding in record.lint if finding.rule in rules]
    if rows:
        yield table(("rule", "confidence", "found", "what to do", "source"), rows)
    statements = [element("li", statement(each)) for each in found.statements if not each.found]
    if statements:
        yield element("ul", *statements, class_="quiet")
    seen = f" Seen on {found.seen_on}." if found.seen_on else ""
    yield element("p", f"For any inputs within: {'; '.join(found.domain)}.{seen}", class_="quiet")


def _summary(found: Headroom) -> str:
    half = [each for each in found.operators if each.dtype == "fp16"]
    if not half:
        return "No operator computes in half precision."
    proven = sum(each.proven for each in half)
    message = f"{proven} of {len(half)} operators in half precision are proven to stay finite for any such input."
    tightest = found.tightest[0]
    if tightest.bits is None:
        return message
    if tightest.bits < 0:
        return f"Values of {tightest.name} pass 65504 by {-tightest.bits:.1f} bits on inputs that were tried. {message}"
    return f"The largest value that was seen leaves {amount(tightest.bits)} of headroom. {message}"


def _plot(operators: Sequence[OperatorRange]) -> Markup:
    """Bars of the largest magnitude by operator, on a scale of powers of two, with the bound above each."""
    columns = list(_columns(operators))
    height = _TOP - _BOTTOM
    drawn = [_bar(index, each) for index, each in enumerate(columns)]
    lines = [
        f'<line class="{kind}" x1="0" x2="{max(len(columns), 1)}" y1="{_TOP - place:g}" y2="{_TOP - place:g}"/>'
        for kind, place in (("one", 0.0), ("limit", _LIMIT))
    ]
    label = "Largest magnitude of each operator, against the largest number of half precision"
    svg = Markup(
        html=f'<svg viewBox="0 0 {max(len(columns), 1)} {height:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}">{lines[0]}{"".join(each.html for each in drawn)}{lines[1]}</svg>'
    )
    marks = [element("span", text, style=f"top: {100 * (_TOP - place) / height:.1f}%") for text, place in _SCALE]
    shared = (
        "" if len(columns) == len(operators) else f" Each bar is the tightest of {len(operators) // len(columns) + 1}."
    )
    return element(
        "div",
        element("div", *marks, class_="scale"),
        svg,
        element(
            "p",
            "Largest magnitude of each operator, in the order of the program: ",
            *_key("seen", "in half precision, as seen"),
            *_key("single", "in float32"),
            *_key("over", "beyond 65504"),
            *_key("bound", "bound"),
            shared,
            class_="quiet caption",
        ),
        class_="plot",
    )


def _key(kind: str, text: str) -> tuple[Content, ...]:
    return element("span", class_=f"key {kind}"), text


def _columns(operators: Sequence[OperatorRange]) -> Iterator[OperatorRange]:
    size = -(-len(operators) // COLUMNS) or 1
    for start in range(0, len(operators), size):
        yield min(operators[start : start + size], key=lambda each: _least(each))


def _least(each: OperatorRange) -> float:
    known = [bits for bits in (each.bits, each.sure_bits) if bits is not None]
    return known[0] if known else math.inf


def _bar(index: int, each: OperatorRange) -> Markup:
    """A bar from the bottom to the largest magnitude that was seen, and a mark at the bound."""
    parts = []
    if each.bits is not None:
        level = _level(each.bits)
        kind = "single" if each.dtype != "fp16" else "over" if each.bits < 0 else "seen"
        parts.append(_rect(kind, index, _TOP - level, level - _BOTTOM))
    if each.sure_bits is not None:
        parts.append(_rect("bound", index, _TOP - _level(each.sure_bits), _BOUND_HEIGHT))
    return element("g", element("title", _words(each)), *parts)


def _level(bits: float) -> float:
    """The power of two of a magnitude, within the plot."""
    return min(max(math.log2(HALF_MAX) - bits, _BOTTOM), _TOP)


def _rect(kind: str, index: int, top: float, height: float) -> Markup:
    return Markup(
        html=f'<rect class="{kind}" x="{index + 0.1:.1f}" y="{top:.2f}" width="0.8" height="{max(height, 0.05):.2f}"/>'
    )


def _words(each: OperatorRange) -> str:
    seen = "" if each.bits is None else f": {amount(each.bits)} as seen"
    sure = "" if each.sure_bits is None else f", {amount(each.sure_bits)} by its bounds"
    return f"{each.name} ({each.operator}, {each.dtype}){seen}{sure}"


def _table(found: Headroom) -> Markup:
    rows = [
        (
            join(code(each.name), f" {each.operator}", *_place(each)),
            _span(each.seen_low, each.seen_high),
            _number("" if each.bits is None else amount(each.bits)),
            _span(each.low, each.high),
            _number("not known" if each.sure_bits is None else amount(each.sure_bits)),
            "proven" if each.proven else "open",
        )
        for each in found.tightest[:WORST]
    ]
    head = ("operator", "seen", "headroom", "bounds", "headroom by bounds", "for any input")
    return table(head, rows) if rows else Markup(html="")


def _place(each: OperatorRange) -> Iterator[Markup]:
    words = ", ".join(filter(None, (f"in {each.module}" if each.module else "", each.line)))
    if words:
        yield element("span", words, class_="meaning")


def _span(low: float | None, high: float | None) -> Markup:
    return _number("" if low is None or high is None else f"{low:,.5g} to {high:,.5g}")


def _number(text: str) -> Markup:
    return element("span", text, class_="number")
