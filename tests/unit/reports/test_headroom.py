"""Headroom on the page and in `build.json`: the plot, the operators with the least, and what rules say."""

from __future__ import annotations

import json
from dataclasses import replace

from builder.artifacts.findings import LintFinding
from builder.artifacts.headroom import Headroom, OperatorRange, Statement, headroom_of
from builder.artifacts.record import BuildRecord
from builder.reports.build_json import render_build_json
from builder.reports.html import render_html


def operator(name: str, seen: float | None, bound: float | None, dtype: str = "fp16") -> OperatorRange:
    return OperatorRange(
        name=name,
        operator="conv",
        dtype=dtype,
        low=None if bound is None else -bound,
        high=bound,
        proven=bound is not None and bound <= 65504,
        seen_low=None if seen is None else -seen,
        seen_high=seen,
        module="features.<3>",
        line="net.py:12",
    )


FINDING = LintFinding(
    rule="half_overflow", confidence="measured", count=1, examples=("wide (conv) reaches 1e+06",), advice="scale",
    sources=("IEEE 754",),
)  # fmt: skip
HEADROOM = Headroom(
    function="",
    domain=("x: -1 to 1",),
    seen_on="4 samples",
    operators=(
        operator("narrow", 8.0, 1024.0),
        operator("wide", 1048064.0, None),
        operator("single", 1.0, 2.0, "fp32"),
    ),
    statements=(
        Statement(rule="half_overflow", sites=2, proven=1, found=1),
        Statement(rule="zero_division", sites=3, proven=3, found=0),
    ),
    findings=(FINDING,),
)


def with_headroom(record: BuildRecord, headroom: Headroom) -> BuildRecord:
    checks = tuple(replace(c, headroom=headroom) if c.kind == "parity" else c for c in record.checks)
    return replace(record, checks=checks, lint=headroom.findings)


def test_headroom_is_counted_in_bits_below_65504() -> None:
    narrow, wide, _ = HEADROOM.operators
    assert (round(narrow.bits or 0, 2), round(narrow.sure_bits or 0, 2)) == (13.0, 6.0)
    assert (round(wide.bits or 0, 2), wide.sure_bits) == (-4.0, None)
    assert [each.name for each in HEADROOM.tightest] == ["wide", "narrow"]


def test_the_page_plots_every_operator_and_names_the_worst(record: BuildRecord) -> None:
    page = render_html(with_headroom(record, HEADROOM))
    assert "Values of wide pass 65504 by 4.0 bits on inputs that were tried. 1 of 2 operators" in page
    assert [page.count(f'<rect class="{kind}"') for kind in ("seen", "over", "single", "bound")] == [1, 1, 1, 2]
    assert page.index("<code>wide</code>") < page.index("<code>narrow</code>")
    assert "features.&lt;3&gt;" in page
    assert "zero_division: proven not to happen at 3 operators" in page
    assert "Seen on 4 samples." in page
    # then what the lint of numbers found is here, and not among what keeps it off the Neural Engine
    assert page.count("half_overflow</code>") == 1
    assert "Nothing is known that would keep this model off the Neural Engine." in page


def test_a_page_of_many_operators_stays_small(record: BuildRecord) -> None:
    many = tuple(operator(f"o{number}", float(number + 1), None) for number in range(2000))
    page = render_html(with_headroom(record, replace(HEADROOM, operators=many)))
    assert page.count('<rect class="seen"') <= 240
    assert len(page) < 200_000


def test_why_nothing_is_known_is_said(record: BuildRecord) -> None:
    page = render_html(
        with_headroom(record, Headroom(function="", not_analysed="a pipeline has no program of its own"))
    )
    assert "Not analysed: a pipeline has no program of its own." in page


def test_a_build_without_a_parity_check_has_no_such_part(record: BuildRecord) -> None:
    assert "Headroom</h2>" not in render_html(record)


def test_it_is_in_the_record_once_and_read_back(record: BuildRecord) -> None:
    document = json.loads(render_build_json(with_headroom(record, HEADROOM)))
    assert [headroom_of(each) for each in document["headroom"]] == [HEADROOM]
    assert all("headroom" not in check for check in document["checks"])
