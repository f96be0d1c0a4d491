"""User code that ends the process or moves elsewhere must not turn a build into a false success."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from builder.errors import SourceError
from builder.util.user_code import call, import_object


def test_a_function_that_exits_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="raised SystemExit"):
        call(lambda: sys.exit(0), "mymodels:make", key="source.factory", error=SourceError, code="B0313")


def test_a_module_that_exits_when_imported_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_script_that_exits.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="importing a_script_that_exits raised SystemExit"):
        import_object("a_script_that_exits:make", key="source.factory")


def test_the_working_directory_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call(lambda: os.chdir("/"), "mymodels:make", key="source.factory", error=SourceError, code="B0313")
    assert Path.cwd() == tmp_path


def test_a_syntax_error_is_told_where_the_user_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a module that itself is fine, and imports one that is not
    (tmp_path / "a_module_of_two.py").write_text("import its_broken_half\n")
    (tmp_path / "its_broken_half.py").write_text("x = 1\ndef make(:\n")
    monkeypatch.chdir(tmp_path)
    # when, then
    with pytest.raises(SourceError, match=r"SyntaxError: invalid syntax \(at .*its_broken_half\.py:2\)"):
        import_object("a_module_of_two:make", key="source.factory")
