"""The reference of recipes is written from the spec, and does not drift."""

from __future__ import annotations

from pathlib import Path

from builder.config.reference import render_reference
from builder.spec.target import TARGET_NAMES

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "recipe.md"


def test_the_page_is_what_the_spec_says():
    assert PAGE.read_text() == render_reference(), (
        "write it again: python -m builder.config.reference > docs/reference/recipe.md"
    )


def test_the_page_names_every_target():
    text = PAGE.read_text()
    assert all(f"| `{name}` |" in text for name in TARGET_NAMES)
