"""Names that no override can say, and names that nothing has."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.__main__ import main


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "a\nb.yaml").write_text("# Odd.\nschema: 1\n")
    monkeypatch.chdir(tmp_path)


def test_a_name_that_cannot_be_given_is_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert main(["recipe=nosuch"]) == 2
    shown = capsys.readouterr()
    assert "a\n" not in shown.out + shown.err
    assert "vit_small" in shown.out


def test_what_hydra_cannot_read_is_said_without_the_name_of_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe=a\nb"]) == 2
    error = capsys.readouterr().err
    assert "cannot be read: it has characters that need quotes" in error
    assert "Exception" not in error


def test_watching_a_recipe_that_is_not_there_ends_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "recipe=nosuch"]) == 2
    error = capsys.readouterr().err
    assert "there is no recipe `nosuch`" in error
    assert "http" not in error
