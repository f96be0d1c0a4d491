"""report.html: verdict first, self-contained, everything escaped, and nothing claimed that was not proven."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from builder.artifacts.checks import CheckedOutput, CheckedPicture, CheckReport
from builder.artifacts.record import BuildRecord, LayerWeights
from builder.reports.files import write_reports
from builder.reports.html import render_html

GOLDEN = Path(__file__).parent / "golden"
VOID = {"meta", "link", "img", "rect"}


class Outline(HTMLParser):
    """The text of a page in reading order; fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.lines: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and data.strip():
            self.lines.append(f"{'/'.join(self.open[2:])}: {data.rstrip()}")


def _outline(page: str) -> Outline:
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    return outline


def test_page_reads_in_order(record: BuildRecord) -> None:
    text = "\n".join(_outline(render_html(record)).lines) + "\n"

    path = GOLDEN / "report.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "review it, then UPDATE_GOLDEN=1 rewrites the golden files"


def test_page_loads_nothing_from_anywhere(record: BuildRecord) -> None:
    page = render_html(record)
    outline = _outline(page)

    assert "<script" not in page
    assert not re.search(r"url\(|@import", page[: page.index("</style>")])
    assert "default-src 'none'" in page
    addresses = [str(value) for name, value in outline.attributes if name in ("src", "href", "srcset")]
    assert [address for address in addresses if not address.startswith(("#", "data:"))] == []
    assert {a for a in addresses if a.startswith("#")} == {f"#{v}" for n, v in outline.attributes if n == "id"}


def test_what_comes_from_outside_is_escaped(make_record: Callable[..., BuildRecord], record: BuildRecord) -> None:
    evil = '</code><script>alert("x")</script>'
    config = {**record.request.config, "metadata": {"author": evil}}

    page = render_html(
        make_record(
            labels=(evil, "b"),
            request=replace(record.request, config=config),
            checks=(
                CheckReport(name=evil, kind="parity", engine="none", values={}, limits={}, passed=None, reason=evil),
            ),
        )
    )

    assert "<script" not in page
    _outline(page)


def test_nothing_on_the_page_turns_the_order_of_reading(
    make_record: Callable[..., BuildRecord], record: BuildRecord
) -> None:
    evil = "a\x1b[2J\u202eb\u2066c\x85"
    config = {**record.request.config, "metadata": {"author": evil}}

    page = render_html(make_record(labels=(evil, "b"), request=replace(record.request, config=config)))

    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", page)
    assert "\\u202e" in page


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        (
            {},
            "It computes what the original computes, executed by builder's own runtime on 4 photographs, 7 stress "
            "inputs and a search of 1,234 inputs.",
        ),
        ({"checks": ()}, "Nothing executed this artifact: what it computes is not proven."),
    ],
)
def test_verdict_says_what_was_proven(
    make_record: Callable[..., BuildRecord], changes: dict[str, object], verdict: str
) -> None:
    heading = next(line for line in _outline(render_html(make_record(**changes))).lines if "/h1: " in line)

    assert heading.partition(": ")[2].strip() == verdict


def test_check_without_execution_proves_nothing(make_record: Callable[..., BuildRecord], record: BuildRecord) -> None:
    page = render_html(make_record(checks=record.checks[:2]))

    assert "what it computes is not proven" in page


def test_execution_without_a_limit_proves_nothing_and_shows_what_was_measured(
    make_record: Callable[..., BuildRecord], record: BuildRecord
) -> None:
    parity = replace(record.checks[2], passed=None, limits={}, reason="no limit is known for this compression")

    page = render_html(make_record(checks=(parity,)))

    assert "It was executed, but what it computes is not proven" in page
    assert "no limit is known for this compression (measured: snr_db 48.31, max_abs 0.00213, cosine 1)" in page


def test_accuracy_alone_claims_no_parity(make_record: Callable[..., BuildRecord]) -> None:
    accuracy = CheckReport(
        name="accuracy", kind="accuracy", engine="runtime", values={"accuracy": 0.98},
        limits={"accuracy": {"min": 0.97}}, passed=True, samples=360,
    )  # fmt: skip

    page = render_html(make_record(checks=(accuracy,)))

    assert "It classifies labelled data as well as its limits demand, executed by " in page
    assert " on 360 samples." in page


def test_missed_limit_and_untrained_weights_are_said_first(
    make_record: Callable[..., BuildRecord], record: BuildRecord
) -> None:
    failed = replace(record.checks[2], passed=False, reason="probabilities: snr_db is 12.5, and the limit is 30")

    page = render_html(make_record(status="broken", seeded=True, checks=(failed,)))

    head = page[: page.index("<main>")]
    assert "parity missed the limit. Do not ship this artifact." in head
    assert "parity (runtime): probabilities: snr_db is 12.5, and the limit is 30" in head
    assert "UNTRAINED WEIGHTS" in head


def test_picture_is_inside_the_page_with_both_answers(
    make_record: Callable[..., BuildRecord], record: BuildRecord
) -> None:
    picture = CheckedPicture(
        input="image", png=b"\x89PNG", label="tabby", engine="runtime",
        reference_top=(("tabby", 0.9), ("espresso", 0.1)), artifact_top=(("tabby", 0.88), ("espresso", 0.12)),
    )  # fmt: skip

    outline = _outline(render_html(make_record(checks=(replace(record.checks[2], pictures=(picture,)),))))

    text = "\n".join(outline.lines)
    assert ("src", "data:image/png;base64,iVBORw==") in outline.attributes
    assert "labelled" in text
    assert "The artifact (runtime)" in text
    assert "88.0 %" in text


def test_what_both_models_gave_is_shown_where_it_is_a_picture_or_an_array(
    make_record: Callable[..., BuildRecord], record: BuildRecord
) -> None:
    outputs = (
        CheckedOutput(name="matte", reference="levels 0 to 17", artifact="levels 0 to 16",
                      reference_png=b"one", artifact_png=b"two"),
        CheckedOutput(name="score", reference="1 from 3 to 3: 3", artifact="1 from 4 to 4: 4"),
    )  # fmt: skip
    picture = CheckedPicture(
        input="image", png=b"\x89PNG", label=None, engine="runtime", reference_top=(), artifact_top=(), outputs=outputs
    )

    outline = _outline(render_html(make_record(checks=(replace(record.checks[2], pictures=(picture,)),))))

    text = "\n".join(outline.lines)
    sources = [value for name, value in outline.attributes if name == "src"]
    assert sources == [f"data:image/png;base64,{data}" for data in ("iVBORw==", "b25l", "dHdv")]
    assert "levels 0 to 16" in text
    assert "1 from 4 to 4: 4" in text
    assert "was not executed" not in text


def test_bytes_of_a_layer_are_added_up_under_the_name_of_its_module(make_record: Callable[..., BuildRecord]) -> None:
    weights = (
        LayerWeights(name="const_0_quantized", bytes=2000, operator="conv", output="x_1", module="features.0"),
        LayerWeights(name="const_1", bytes=500, operator="conv", output="x_1", module="features.0"),
        LayerWeights(name="table", bytes=100, operator="gather", output="x_2"),
    )

    lines = _outline(render_html(make_record(weights=weights))).lines

    bars = [line.rpartition(": ")[2] for line in lines if "bytes by layer" not in line and "/div/span" in line]
    assert [bars[bars.index("features.0 (conv)") + 1], bars[bars.index("x_2 (gather)") + 1]] == ["2.5 kB", "100 bytes"]


def test_reports_are_written_beside_the_artifact(record: BuildRecord, tmp_path: Path) -> None:
    write_reports(record, tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {"build.json", "report.html"}
