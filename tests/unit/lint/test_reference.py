"""The page of the rules is written from them, and recipes can name every rule and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from builder.analysis.neural_engine.reference import render_reference
from builder.analysis.neural_engine.table import RULES
from builder.spec.lint import Lint

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "lint.md"


def test_the_page_is_what_the_rules_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_reference(), (
        "run: python -m builder.analysis.neural_engine.reference > docs/reference/lint.md"
    )


def test_every_rule_has_a_source() -> None:
    assert all(rule.sources and rule.advice for rule in RULES.values())


@pytest.mark.parametrize("rule", RULES)
def test_a_recipe_accepts_a_rule_with_a_reason(rule: str) -> None:
    assert Lint.model_validate({"ignore": {rule: "measured on a device"}}).ignore == {rule: "measured on a device"}
    with pytest.raises(ValidationError):
        Lint.model_validate({"ignore": {rule: " "}})
