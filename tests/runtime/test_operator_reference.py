"""The page of operators is what the tables and coremltools' registry say, and nothing is missing."""

from __future__ import annotations

from pathlib import Path

from builder.runtime.reference import render_reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "runtime_operators.md"


def test_the_page_is_what_the_tables_say() -> None:
    # given, when, then
    assert PAGE.read_text(encoding="utf-8") == render_reference(), (
        "run: python -m builder.runtime.reference > docs/reference/runtime_operators.md"
    )


def test_every_operator_and_parameter_of_the_registry_is_there() -> None:
    # given, when
    page = render_reference()

    # then
    assert "**missing**" not in page
    assert "does not take" not in page
