"""Publishing: a crash at any moment leaves the old or the new folder complete; one builder at a time; full disks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from builder.errors import ConfigurationError, SourceError, UnfitEnvironmentError
from builder.progress import Silent
from builder.util import locks, paths

VARIANT = ("net", "default")
NAMES = ["build.json", "build.log", "report.html"]


class Listener(Silent):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str, *, code: str) -> None:
        self.warnings.append(message)


def _fill(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / name).write_text(text)
    return folder


def _content(folder: Path) -> set[str]:
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == NAMES
    return {file.read_text() for file in files}


def _publish(outputs: Path, text: str) -> Path:
    final = paths.variant_folder(outputs, *VARIANT)
    with paths.working_folder(outputs, *VARIANT, progress=Silent()) as folder:
        paths.publish(_fill(folder, text), final)
    return final


@pytest.mark.parametrize("exchange", [True, False])
def test_publishing_replaces_and_leaves_nothing_else(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(paths, "_exchange", lambda first, second: False)

    for text in ("first", "second", "third"):
        final = _publish(tmp_path, text)

        assert _content(final) == {text}
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    assert [path.name for path in (tmp_path / "net").iterdir()] == ["default"]


def test_failed_build_writes_nothing(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"

    def fail() -> None:
        with paths.working_folder(outputs, *VARIANT, progress=Silent()) as folder:
            _fill(folder, "half")
            raise SourceError("no network", code="B0306")

    with pytest.raises(SourceError):
        fail()

    assert list(tmp_path.iterdir()) == []


CRASHING = """
import os, sys
from pathlib import Path
from builder.util import locks, paths
from builder.progress import Silent

outputs, step, exchange = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
if not exchange:
    paths._exchange = lambda first, second: False
calls = 0
def crash_at(real):
    def call(*arguments, **keywords):
        global calls
        calls += 1
        if calls == step:
            os._exit(9)
        return real(*arguments, **keywords)
    return call
with paths.working_folder(outputs, "net", "default", progress=Silent()) as folder:
    for name in ("build.json", "build.log", "report.html"):
        (folder / name).write_text("new")
    Path.rename, paths._exchange = crash_at(Path.rename), crash_at(paths._exchange)
    os.unlink, os.rmdir = crash_at(os.unlink), crash_at(os.rmdir)
    paths.publish(folder, outputs / "net" / "default")
os._exit(0)
"""


@pytest.mark.parametrize("exchange", [True, False])
def test_crash_at_any_step_leaves_old_or_new_complete(tmp_path: Path, exchange: bool) -> None:
    # given a good build, and builds that are killed at the first, second, … change of the file system
    finished = False
    for step in range(1, 20):
        outputs = tmp_path / str(step)
        _publish(outputs, "old")
        code = subprocess.run([sys.executable, "-c", CRASHING, str(outputs), str(step), str(exchange)], check=False)
        final = paths.variant_folder(outputs, *VARIANT)

        # then with an exchange there is no moment without a complete folder, and without one the next build mends it
        if exchange:
            assert _content(final) in ({"old"}, {"new"})
        with paths.working_folder(outputs, *VARIANT, progress=Silent()) as folder:
            assert list(folder.iterdir()) == []
            assert _content(final) in ({"old"}, {"new"})
        assert [path.name for path in outputs.iterdir()] == ["net"]
        finished = code.returncode == 0
        if finished:
            break
    assert finished, "the last run was not interrupted"


def test_second_build_of_a_variant_waits_and_says_so(tmp_path: Path) -> None:
    order: list[str] = []
    listener = Listener()
    inside, waiting = threading.Event(), threading.Event()
    listener.warn = lambda message, code: (listener.warnings.append(message), waiting.set())[0]  # type: ignore[method-assign]

    def second() -> None:
        inside.wait(10)
        with paths.working_folder(tmp_path, *VARIANT, progress=listener):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with paths.working_folder(tmp_path, *VARIANT, progress=Silent()):
        inside.set()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)

    assert order == ["first", "second"]
    assert listener.warnings == ["waiting: another build of net (default) is running"]
    assert list(tmp_path.iterdir()) == []


def test_many_builders_of_one_variant_never_meet(tmp_path: Path) -> None:
    present: list[int] = []
    most = 0

    def build(number: int) -> None:
        nonlocal most
        for _ in range(20):
            with paths.working_folder(tmp_path, *VARIANT, progress=Silent()) as folder:
                present.append(number)
                most = max(most, len(present))
                _fill(folder, str(number))
                present.remove(number)

    threads = [threading.Thread(target=build, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 1


def test_full_disk_is_explained_and_the_old_build_stays(tmp_path: Path) -> None:
    final = _publish(tmp_path, "old")

    with (
        pytest.raises(UnfitEnvironmentError, match="the disk is full") as caught,
        paths.working_folder(tmp_path, *VARIANT, progress=Silent()) as folder,
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "weight.bin"))

    assert caught.value.exit_code == 7
    assert _content(final) == {"old"}


def test_outputs_are_found_from_an_artifact(tmp_path: Path) -> None:
    good = paths.variant_folder(tmp_path, "net", "default") / "net.mlpackage"
    broken = paths.broken_folder(tmp_path, "net", "default") / "net.mlpackage"

    assert paths.outputs_of(good, "net", broken=False) == tmp_path
    assert paths.outputs_of(broken, "net", broken=True) == tmp_path
    assert paths.artifact_name("net", "mlmodel") == "net.mlmodel"


def test_earlier_good_folder_is_named_only_where_there_is_one(tmp_path: Path) -> None:
    assert paths.earlier_good_folder(tmp_path, *VARIANT) is None

    final = _publish(tmp_path, "old")
    (final / "build.json").write_text("{}")

    assert paths.earlier_good_folder(tmp_path, *VARIANT) == final


def test_other_errors_are_not_explained_away(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), paths.writing(tmp_path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/somewhere/else")
    with pytest.raises(UnfitEnvironmentError, match="cannot write"), paths.writing(tmp_path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "file"))


def test_a_file_in_the_place_of_a_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("")
    for folder in (tmp_path / "report", tmp_path / "report" / "pages"):
        with pytest.raises(ConfigurationError, match="is a file, not a folder"), paths.writing(folder):
            folder.mkdir(parents=True)


def test_outputs_behind_a_link_that_leads_nowhere_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given outputs on a disk that is not there
    monkeypatch.setattr(locks, "_PATIENCE", 0.05)
    outputs = tmp_path / "outputs"
    outputs.symlink_to(tmp_path / "unplugged" / "outputs")
    # when, then: not an endless wait
    with (
        pytest.raises(UnfitEnvironmentError, match="no folder can be made there"),
        paths.working_folder(outputs, *VARIANT, progress=Silent()),
    ):
        pass


def test_a_folder_that_comes_and_goes_is_not_mistaken_for_a_file(tmp_path, monkeypatch):
    # given a folder that other processes remove and make between any two looks at it
    folder = tmp_path / "locks"
    made = Path.mkdir
    looks = iter([True, False] * 50)

    def mkdir(path, *arguments, **settings):
        if path == folder and next(looks, False):
            raise FileExistsError(path)  # it was there for mkdir, and gone when pathlib looked
        made(path, *arguments, **settings)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path, **settings: path == folder or exists(path, **settings))

    # when a lock is taken in it, then it is taken
    with locks.exclusive(folder / "a.lock"):
        assert (folder / "a.lock").is_file()


def test_a_file_in_the_place_of_the_folder_of_a_lock_is_refused(tmp_path):
    (tmp_path / "locks").write_text("")
    with pytest.raises(FileExistsError), locks.exclusive(tmp_path / "locks" / "a.lock"):
        pass


def test_holding_a_variant_leaves_nothing_behind(tmp_path: Path) -> None:
    final = paths.variant_folder(tmp_path, "some/tiny", "default")
    final.mkdir(parents=True)
    with paths.held(tmp_path, "some/tiny", "default"):
        assert paths.lock_of(tmp_path, "some/tiny", "default").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["some"]
