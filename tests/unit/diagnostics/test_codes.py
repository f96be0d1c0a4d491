"""The table of codes: every code is raised somewhere, every place that raises has a row, and pages are the table's."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import builder
from builder import errors
from builder.__main__ import main
from builder.diagnostics import table
from builder.diagnostics.code import Code, Example
from builder.diagnostics.pages import pages
from builder.diagnostics.table import CODES

PACKAGE = Path(builder.__file__).parent
FOLDER = PACKAGE.parent / "docs" / "reference" / "errors"
EXIT_CODES = {
    kind.__name__: kind.exit_code
    for kind in vars(errors).values()
    if isinstance(kind, type) and hasattr(kind, "exit_code")
} | {
    "ChildError": 4,
    "OfflineError": 3,
    "Diagnostic": 2,  # diagnostics that are not raised one by one are about recipes
    "warn": 0,
}


@cache
def raised() -> list[tuple[str, int, str, str]]:
    """File, line, class and code of each place of builder that says a code."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.is_relative_to(PACKAGE / "diagnostics"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and any(k.arg == "code" for k in node.keywords):
                name = ast.unparse(node.func).rpartition(".")[2]
                if any(ast.unparse(k.value) == "'warning'" for k in node.keywords if k.arg == "severity"):
                    name = "warn"
                for given in (k.value for k in node.keywords if k.arg == "code"):
                    if isinstance(given, ast.Constant) and isinstance(given.value, str):
                        found.append((str(file.relative_to(PACKAGE)), node.lineno, name, given.value))
    return found


def test_every_code_is_raised_somewhere() -> None:
    assert set(CODES) == {code for *_, code in raised() if re.fullmatch(r"B\d{4}", code)}


def test_every_code_ends_a_command_as_its_digits_say() -> None:
    wrong = [row for row in raised() if row[2] in EXIT_CODES and EXIT_CODES[row[2]] != int(row[3][1:3])]
    assert wrong == []
    assert len([row for row in raised() if row[2] in EXIT_CODES]) > 400


def test_codes_are_in_the_table_once() -> None:
    code = CODES["B0211"]
    with pytest.raises(ValueError, match="B0211 is there twice"):
        table._table([code, Code(code="B0211", title="another", text="", example=Example())])


def test_pages_are_those_of_the_table() -> None:
    written = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.iterdir()}
    assert written == pages(), "run: python -m builder.diagnostics.pages docs/reference/errors"


def test_errors_do_not_change_and_travel() -> None:
    import pickle

    error = errors.SourceError("it is damaged", code="B0302", key="source.file")
    with pytest.raises(AttributeError):
        error.hint = "copy it again"  # type: ignore[misc]
    other = error.replaced(hint="copy it again")
    assert (error.hint, other.hint, other.message, other.key) == (None, "copy it again", "it is damaged", "source.file")
    assert pickle.loads(pickle.dumps(other)).diagnostic == other.diagnostic


def test_an_error_about_no_setting_is_about_the_one_around_it() -> None:
    with pytest.raises(errors.SourceError) as raised, errors.about("source"):
        raise errors.SourceError("it is damaged", code="B0302")
    assert raised.value.key == "source"


def test_a_code_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "error[b0211]:"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("B0211: an unknown key (exit code 2)")
    assert "presicion: fp16" in said
    assert "$ python -m builder recipe=x" in said


def test_all_codes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    assert [line[:5] for line in capsys.readouterr().out.splitlines()] == list(CODES)


def test_an_unknown_code_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "B0221x"]) == 2
    assert "did you mean `B0221`?" in capsys.readouterr().err
