"""The registry, the configuration group, the closed union and the reference page name the same rewrites."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import yaml

from builder.spec.substitutions import ShippedRewrite
from builder.substitutions.reference import render_reference
from builder.substitutions.table import REWRITES

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "substitutions.md"


def test_the_page_is_what_the_docstrings_say():
    assert PAGE.read_text(encoding="utf-8") == render_reference(), (
        "run: python -m builder.substitutions.reference > docs/reference/substitutions.md"
    )


def test_the_union_knows_every_rewrite_and_no_other():
    assert set(get_args(ShippedRewrite.model_fields["kind"].annotation)) == set(REWRITES)


def test_every_rewrite_is_an_option_of_its_name():
    folder = ROOT / "conf" / "substitutions"
    assert {path.stem for path in folder.glob("*.yaml")} == {*REWRITES, "none"}
    for name in REWRITES:
        text = (folder / f"{name}.yaml").read_text(encoding="utf-8")
        assert yaml.safe_load(text) == {name: {"kind": name}}
        assert text.startswith("# ")


@pytest.mark.parametrize("name", REWRITES)
def test_every_rewrite_says_what_is_given_and_what_comes_of_it(name):
    said = REWRITES[name].function.__doc__ or ""
    assert "Given: " in said
    assert "Result: " in said
