"""Temporary files of a command go with it, whatever ended it; those of a command that was killed go with the next."""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
from pathlib import Path

import pytest

from builder.util.child import supervised
from builder.util.room import temporary_place, temporary_room


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def leave() -> None:
    folder = Path(tempfile.mkdtemp(prefix="builder-captured-"))
    (folder / "program").write_text("half")


@pytest.mark.parametrize("end", [lambda: 0, lambda: os._exit(3), lambda: os.kill(os.getpid(), signal.SIGKILL)])
def test_nothing_is_left_of_a_command(end, place: Path) -> None:
    def work() -> int:
        leave()
        assert temporary_place() == place
        return end() or 0

    supervised(work)
    assert not list(place.iterdir())


def test_what_a_killed_parent_left_goes_with_the_next_command(place: Path) -> None:
    parent = os.fork()
    if parent == 0:
        with temporary_room() as room:
            assert room is not None
            (room.folder / "half").write_text("x")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    assert len(list(place.iterdir())) == 1
    with temporary_room() as room:
        assert room is not None
        assert list(place.iterdir()) == [room.folder]
    assert not list(place.iterdir())


def test_what_others_use_or_made_stays(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with temporary_room() as one, temporary_room() as other:
        assert one is not None
        assert other is not None
        assert {one.folder, other.folder} <= set(place.iterdir())
    foreign = tmp_path_factory.mktemp("foreign")
    (foreign / "letter").write_text("precious")
    (place / "builder-abcd1234").symlink_to(foreign, target_is_directory=True)
    (place / "builder-abcd5678").write_text("a file")
    (place / "builder-notes").mkdir()
    (place / ".builder-new-abcd1234").mkdir()  # about to be locked
    before = set(place.iterdir())
    with temporary_room():
        pass
    assert set(place.iterdir()) == before
    assert (foreign / "letter").read_text() == "precious"


def test_a_command_runs_where_no_folder_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError("no locks")

    monkeypatch.setattr(fcntl, "flock", none)
    with temporary_room() as room:
        assert room is None
    assert supervised(lambda: 0).record.code == 0
