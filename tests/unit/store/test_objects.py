"""Files come into the store by their digest, copied or as they are."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest

from builder.store.objects import Objects

CONTENT = b"a program" * 1000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "program"
    made.write_bytes(CONTENT)
    return made


def test_a_file_that_is_given_away_is_moved(tmp_path: Path, file: Path) -> None:
    objects = Objects(tmp_path / "store")
    inode = file.stat().st_ino
    assert objects.put_file(file, take=True) == DIGEST
    assert not file.exists()
    assert objects.path(DIGEST).stat().st_ino == inode
    assert objects.path(DIGEST).stat().st_mode & 0o777 == 0o444
    assert objects.read_bytes(DIGEST) == CONTENT


def test_a_file_of_another_file_system_is_copied(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def elsewhere(path: Path, target: Path) -> Path:
        if path == file:
            raise OSError(errno.EXDEV, "another file system")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", elsewhere)
    objects = Objects(tmp_path / "store")
    assert objects.put_file(file, take=True) == DIGEST
    assert objects.read_bytes(DIGEST) == CONTENT
    assert not objects.failures


def test_a_file_is_copied_unless_it_is_given_away(tmp_path: Path, file: Path) -> None:
    objects = Objects(tmp_path / "store")
    assert objects.put_file(file) == DIGEST
    assert file.read_bytes() == CONTENT
    objects.path(DIGEST).chmod(0o644)
    objects.path(DIGEST).write_bytes(b"damaged")
    assert objects.put_file(file, take=True) == DIGEST  # what was damaged unnoticed is mended
    assert objects.read_bytes(DIGEST) == CONTENT
