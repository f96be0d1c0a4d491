"""The registry, the configuration group, the closed union and the reference page name the same rewrites."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import yaml

from builder.model.substitutions.reference import render_reference
from builder.model.substitutions.table import REWRITES
from builder.spec import BuildSpec
from builder.spec.rules.compatibility import find_incompatibilities
from builder.spec.substitutions import ShippedRewrite

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "substitutions.md"
SPEC = {
    "source": {"kind": "python", "factory": "m:f"},
    "input": {"x": {"kind": "tensor", "shape": [1, {"min": 1, "max": 8, "default": 4}], "dtype": "float32"}},
    "precision": {"kind": "fp32"},
    "target": {"name": "ios16"},
    "tracking": {"kind": "none"},
}


def test_the_page_is_what_the_docstrings_say():
    assert PAGE.read_text(encoding="utf-8") == render_reference(), (
        "run: python -m builder.model.substitutions.reference > docs/reference/substitutions.md"
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


def test_kinds_that_fix_a_size_are_not_for_flexible_inputs():
    substitutions = {"adaptive_to_fixed_pooling": None, "silu": {}}
    spec = BuildSpec.model_validate({**SPEC, "substitutions": substitutions})
    problems = [p for p in find_incompatibilities(spec) if p.path[0] == "substitutions"]
    assert [p.path for p in problems] == [("substitutions", "adaptive_to_fixed_pooling")]


def test_the_examples_on_the_page_are_valid_substitutions():
    examples = [part.split("```")[0] for part in render_reference().split("```yaml\n")[1:]]
    assert len(examples) == 3
    for example in examples:
        spec = BuildSpec.model_validate(SPEC | yaml.safe_load(example))
        assert spec.substitutions
