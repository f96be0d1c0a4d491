"""A package is written whole, again where nobody changed it, and never over anything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import ConfigurationError
from builder.swift.write import require_own, write_package
from tests.unit.swift.executed import package_of
from tests.unit.swift.test_golden_numbers import DIGITS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_package(package_of(DIGITS), None, tmp_path / "Digits")


def test_the_same_is_written_again(folder: Path) -> None:
    def contents() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    first = contents()
    (folder / ".build").mkdir()
    (folder / ".build" / "x.o").write_text("of SwiftPM")
    write_package(package_of(DIGITS), None, folder)
    assert contents() == first
    assert [path.name for path in folder.parent.iterdir()] == ["Digits"]


def _edit(folder: Path) -> None:
    (folder / "Package.swift").write_text("mine")


def _add(folder: Path) -> None:
    (folder / "Sources" / "Digits" / "Mine.swift").write_text("")


def _remove(folder: Path) -> None:
    (folder / "README.md").unlink()


def _damage(folder: Path) -> None:
    (folder / ".builder.json").write_text("[]")


@pytest.mark.parametrize("change", [_edit, _add, _remove, _damage])
def test_what_a_person_changed_stays(folder: Path, change: Callable[[Path], None]) -> None:
    change(folder)
    before = sorted((str(file), file.read_bytes()) for file in folder.rglob("*") if file.is_file())
    with pytest.raises(ConfigurationError, match=r"changed or added|damaged"):
        write_package(package_of(DIGITS), None, folder)
    assert sorted((str(file), file.read_bytes()) for file in folder.rglob("*") if file.is_file()) == before


def test_other_folders_files_and_links_stay(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(folder)
    for name in ("mine", "file", "link"):
        with pytest.raises(ConfigurationError, match="did not write it"):
            require_own(tmp_path / name)
    (tmp_path / "empty").mkdir()
    require_own(tmp_path / "empty")
    require_own(tmp_path / "new")
