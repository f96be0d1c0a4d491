"""Every error screen is a golden file: exit 2, nothing on stdout, no traceback, nothing written.

`UPDATE_GOLDEN=1 pytest tests/golden` rewrites them; review the difference like code.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.__main__ import main
from builder.config import folders
from tests.golden.cases import CASES, Case

GOLDEN = Path(__file__).parent / "errors"


def write_files(case: Case, folder: Path) -> None:
    for name, content in case.files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())


def normalised(text: str) -> str:
    root = str(folders.shipped("conf").parent)
    recipes = str(GOLDEN.parent / "recipes")
    return text.replace(str(Path.cwd()), "<here>").replace(recipes, "<recipes>").replace(root, "<builder>")


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Screens as wide as where nobody looks at a terminal, wherever the tests run."""
    monkeypatch.setattr("shutil.get_terminal_size", lambda fallback=(80, 24): os.terminal_size(fallback))


@pytest.fixture(autouse=True)
def _few_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ship two recipes only, so that a new one changes no screen."""
    real = folders.shipped
    recipes = GOLDEN.parent / "recipes"
    monkeypatch.setattr(folders, "shipped", lambda name: recipes if name == "recipes" else real(name))


@pytest.mark.parametrize("name", CASES)
def test_error_screen(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a folder with a mistake
    case = CASES[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BUILDER_RECIPES", raising=False)
    write_files(case, tmp_path)
    before = sorted(tmp_path.rglob("*"))

    # when it is built
    code = main(list(case.arguments))

    # then the screen is the golden one, and nothing else happened
    captured = capsys.readouterr()
    screen = f"$ python -m builder {' '.join(case.arguments)}\n{normalised(captured.err)}"
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(screen, encoding="utf-8")
    assert code == case.exit_code
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert sorted(tmp_path.rglob("*")) == before
    assert screen == golden.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(CASES)
