"""The rules between rooms: import-linter's contracts, and those that need no list of rooms to keep."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import builder
import coreml_runtime

PACKAGE = Path(builder.__file__).parent
ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "torchvision", "coremltools", "mlflow", "numpy"}


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or later."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_contracts_of_import_linter_hold(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", ["builder.spec", "builder.config.compose", "builder.__main__", "builder.cli.build"])
def test_composing_imports_nothing_heavy(module: str, tmp_path: Path) -> None:
    code = f"import {module}, sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_not_public_of_the_runtime_is_imported_from_where_it_is() -> None:
    """`builder.runtime` is one file; its modules are those of the distribution `coreml-runtime`, in `runtime/`."""
    files = [file for folder in ("builder", "runtime", "tests", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    assert not {
        f"{file.relative_to(ROOT)}: {name} is {name.replace('builder.runtime', 'coreml_runtime')}"
        for file in files
        for name in imports(file)
        if name.startswith("builder.runtime.") and name.count(".") > 2
    }
    assert not (PACKAGE / "runtime" / "__init__.py").exists(), "the runtime is in runtime/coreml_runtime"


def test_a_recipe_may_accept_exactly_the_rules_that_the_lint_has() -> None:
    from builder.analysis.headroom.table import RULES as NUMBERS
    from builder.analysis.neural_engine.table import RULES
    from builder.spec.lint import RULE_NAMES

    assert (*RULES, *NUMBERS) == RULE_NAMES


def test_builder_and_its_runtime_have_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert builder.__version__ == coreml_runtime.__version__
    assert f"coreml-runtime=={coreml_runtime.__version__}" in project["dependencies"]
