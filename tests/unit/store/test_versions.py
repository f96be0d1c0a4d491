"""Versions of packages, against what `importlib.metadata` says of every package that is installed."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from builder.store.versions import MISSING, installed_version


def test_every_installed_version_is_that_of_importlib() -> None:
    names = {found.metadata["Name"] for found in metadata.distributions()}
    assert len(names) > 20
    assert {name: installed_version(name) for name in names} == {name: metadata.version(name) for name in names}


def test_a_name_may_be_spelt_in_any_way() -> None:
    assert installed_version("Scikit.Learn") == installed_version("scikit_learn") == metadata.version("scikit-learn")


def test_what_is_not_installed_is_missing() -> None:
    assert installed_version("no-such-package") == MISSING


def test_the_first_on_the_path_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given another torch before the installed one, whose description speaks of a version too
    folder = tmp_path / "torch-9.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9+x\n\nVersion: 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    # then
    assert installed_version("torch") == metadata.version("torch") == "9.9+x"


def test_eggs_are_left_to_importlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "hen.egg-info"
    folder.mkdir()
    (folder / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: hen\nVersion: 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed_version("hen") == "3"
