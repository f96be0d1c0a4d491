"""The page of Core AI's operators is what the tables say, and the dialect has no operator besides."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

from coreml_runtime.coreai.ops import operators
from coreml_runtime.coreai.reference import REFUSED, STRUCTURE, render_reference

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "coreai_operators.md"
FILE = "_compiler/dialects/_coreai_ops_gen.py"


def test_the_page_is_what_the_tables_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_reference(), (
        "run: python -m coreml_runtime.coreai.reference > docs/reference/coreai_operators.md"
    )


def test_every_operator_of_the_dialect_is_run_or_refused_with_a_reason() -> None:
    found = find_spec("coreai")
    if found is None or not found.submodule_search_locations:
        pytest.skip("coreai-core is not installed: there is no dialect to compare with")
    source = Path(found.submodule_search_locations[0]) / FILE
    names = {
        node.value.value.removeprefix("coreai.")
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "OPERATION_NAME"
        and isinstance(node.value, ast.Constant)
    }
    plain = {name.removeprefix("decomposable.broadcasting_") for name in names}
    assert len(names) == 140
    assert plain - operators().keys() - STRUCTURE.keys() == set(REFUSED)
