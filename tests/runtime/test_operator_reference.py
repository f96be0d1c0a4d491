"""The page of operators is what the tables and coremltools' registry say, and nothing is missing."""

from __future__ import annotations

from pathlib import Path

from builder.backends.coreml.runtime_reference import render_reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "runtime_operators.md"


def test_the_page_is_what_the_tables_say_and_lacks_nothing() -> None:
    # given, when
    page = render_reference()

    # then
    assert PAGE.read_text(encoding="utf-8") == page, (
        "run: python -m builder.backends.coreml.runtime_reference > docs/reference/runtime_operators.md"
    )
    assert "**missing**" not in page
    assert "| does not take" not in page
