"""Where outputs go, and how a finished folder takes the place of an old one in a single step."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.errors import ConfigurationError, UnfitEnvironmentError
from builder.progress import Progress
from builder.util.locations import shown
from builder.util.locks import exclusive

_WORKING = ".building"
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOT_FOLDERS = {errno.EEXIST, errno.ENOTDIR}
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}


def variant_folder(outputs: Path, recipe: str, variant: str) -> Path:
    """Where a passing build lies."""
    return outputs / recipe / variant


def broken_folder(outputs: Path, recipe: str, variant: str) -> Path:
    """Where a build lies that missed a limit."""
    return outputs / "broken" / recipe / variant


def artifact_name(recipe: str, artifact_format: str) -> str:
    """The file name of the artifact; `artifact_format` is its suffix."""
    return f"{Path(recipe).name}.{artifact_format}"


def outbox_folder(outputs: Path) -> Path:
    """What waits to be sent to MLflow."""
    return outputs / ".outbox"


def devices_folder(outputs: Path) -> Path:
    """What devices measured, by the digest of the artifact."""
    return outputs / ".devices"


def tracking_database(outputs: Path) -> Path:
    """The default tracking store."""
    return outputs / "mlflow.db"


def tracking_artifacts(outputs: Path) -> Path:
    """Where the default tracking store keeps files."""
    return outputs / "mlartifacts"


def outputs_of(artifact: Path, recipe: str, *, broken: bool) -> Path:
    """The outputs folder in which `artifact` was published (the inverse of the folder functions)."""
    depth = 1 + len(Path(recipe).parts) + (1 if broken else 0)
    return artifact.parents[depth]


def lock_of(outputs: Path, recipe: str, variant: str) -> Path:
    """What a build of this variant holds; a file that nobody holds is what a killed build left behind."""
    return outputs / _WORKING / recipe / f"{variant}.lock"


@contextmanager
def held(outputs: Path, recipe: str, variant: str) -> Iterator[None]:
    """Hold what a build of this variant holds, to change what it has published; leaves no folder that it made."""
    lock = lock_of(outputs, recipe, variant)
    try:
        with exclusive(lock):
            yield
    finally:
        _remove_empty(lock.parent, until=outputs)


@contextmanager
def working_folder(outputs: Path, recipe: str, variant: str, *, progress: Progress) -> Iterator[Path]:
    """Yield an empty folder on the file system of `outputs`, for the only build of this variant.

    Waits for another build of the same variant, and says so; removes what a killed build left behind.
    Afterwards the folder is gone, and if nothing was published, so is every folder made for it.
    """
    lock = lock_of(outputs, recipe, variant)
    parent, folder = lock.parent, lock.with_suffix("")
    new = not outputs.exists()

    def waiting() -> None:
        progress.warn(f"waiting: another build of {recipe} ({variant}) is running", code="B0003")

    try:
        with writing(outputs), exclusive(lock, on_wait=waiting):
            for final in (variant_folder(outputs, recipe, variant), broken_folder(outputs, recipe, variant)):
                _recover(final)
                refuse_foreign(final)
            try:
                _remove(folder)
                folder.mkdir(parents=True)
                yield folder
            finally:
                _remove(folder)
    finally:
        _remove_empty(parent, until=outputs)
        if new:
            with contextlib.suppress(OSError):  # not empty: something was published
                outputs.rmdir()


_RECORDS = ("build.json", "build.log")
"""One of these lies in every folder that a build published."""
_MADE = ("build.json", "build.log", "report.html", "worst_inputs", "__pycache__", ".DS_Store")
_MADE_SUFFIXES = (".mlpackage", ".mlmodel", ".aimodel", ".yaml")
"""Files beside an artifact that a build makes, named after its recipe."""


def refuse_foreign(final: Path) -> None:
    """Raise ConfigurationError where something lies at `final` that no build published: it would be replaced."""
    if not os.path.lexists(final):
        return
    empty = final.is_dir() and not any(final.iterdir())
    if not empty and not any((final / name).is_file() for name in _RECORDS):
        raise ConfigurationError(
            f"{shown(final)} exists, and no build made it",
            code="B0227",
            hint="move it away, or build into another folder: `--outputs FOLDER`",
        )


def foreign_names(final: Path, recipe: str) -> list[str]:
    """The names of what lies beside an artifact of a recipe that no build makes."""
    if not final.is_dir():
        return []
    stem = Path(recipe).name.casefold()
    return [
        name
        for name in sorted(path.name for path in final.iterdir())
        if name not in _MADE and not (name.endswith(_MADE_SUFFIXES) and name.casefold().startswith(stem))
    ]


def carry_over(final: Path, finished: Path, recipe: str) -> list[str]:
    """Copy what a person put beside the artifact at `final` into `finished`, and return the names.

    It is copied, and not moved: whenever a build is killed, it lies in one of the two places.
    """
    names = [name for name in foreign_names(final, recipe) if not os.path.lexists(finished / name)]
    for name in names:
        if (final / name).is_dir() and not (final / name).is_symlink():
            shutil.copytree(final / name, finished / name, symlinks=True)
        else:
            shutil.copy2(final / name, finished / name, follow_symlinks=False)
    return names


def publish(finished: Path, final: Path) -> None:
    """Put the folder `finished` in the place of `final`; both must lie on one file system.

    Where the system can exchange two names (Linux, macOS) there is no moment without a complete folder at `final`.
    Elsewhere the old one is renamed aside for the moment of the second rename, and a build that is killed just then
    is mended by the next `working_folder`.
    """
    with writing(final.parent):
        final.parent.mkdir(parents=True, exist_ok=True)
        if not final.exists():
            try:
                finished.rename(final)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
        if _exchange(finished, final):
            _remove(finished)
        else:
            _rename_aside(finished, final)


def earlier_good_folder(outputs: Path, recipe: str, variant: str) -> Path | None:
    """The last passing build of a variant, which is stale when a newer one is broken; None if there is none."""
    folder = variant_folder(outputs, recipe, variant)
    return folder if (folder / "build.json").is_file() else None


def first_failure(error: OSError) -> OSError:
    """The first of what `shutil.copytree` met, which raises a list of texts; any other error as it is."""
    failures = error.args[0] if isinstance(error, shutil.Error) and error.args else None
    if not isinstance(failures, list) or not failures:
        return error
    source, target, reason = failures[0]
    found = re.match(r"\[Errno (\d+)\]", str(reason))
    return OSError(int(found[1]), os.strerror(int(found[1])), str(source), None, str(target)) if found else error


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Explain a full disk, a folder that cannot be written and a file in its place, instead of a traceback."""
    try:
        yield
    except OSError as caught:
        error = first_failure(caught)
        where = error.filename2 or error.filename or folder  # of a copy, the second is the one that is written
        ours = error.filename is not None and str(where).startswith(str(folder))
        if error.errno in DISK_FULL:
            raise UnfitEnvironmentError(
                f"the disk is full: {error.strerror} while writing {where}",
                code="B0706",
                hint="free some space, or build into another folder; what was built before is untouched",
            ) from error
        if error.errno in NOT_FOLDERS:
            raise ConfigurationError(f"{where} is a file, not a folder", code="B0227") from error
        if error.errno in NOT_WRITABLE and ours:
            raise UnfitEnvironmentError(
                f"cannot write {where}: {error.strerror}",
                code="B0706",
                hint=f"make {folder} writable, or build into another folder",
            ) from error
        raise


def write_atomically(path: Path, text: str, *, private: bool = False) -> None:
    """Write `text` as UTF-8 to a temporary file beside `path`, then rename it there; `private` is for its owner.

    Raises ConfigurationError where a folder lies there.
    """
    if path.is_dir():
        raise ConfigurationError(f"{shown(path)} is a folder, not a file", code="B0227", hint="name a file in it")
    with writing(path.parent):
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            if not private:
                Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two existing names atomically; False where the system cannot.

    Linux: renameat2(2) with RENAME_EXCHANGE; macOS: renamex_np(2) with RENAME_SWAP (not run by the tests).
    """
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    at_working_directory = -100
    if sys.platform == "linux" and hasattr(library, "renameat2"):
        failed = library.renameat2(at_working_directory, names[0], at_working_directory, names[1], 2)
    elif sys.platform == "darwin" and hasattr(library, "renamex_np"):
        failed = library.renamex_np(names[0], names[1], 2)
    else:
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.ENOENT):
        return False
    raise OSError(code, os.strerror(code), str(second))


def _aside(final: Path) -> Path:
    return final.parent / f".{final.name}.old"


def _rename_aside(finished: Path, final: Path) -> None:
    """Rename `final` aside, `finished` to `final`, and remove the old one; `_recover` mends an interruption."""
    aside = _aside(final)
    _remove(aside)
    final.rename(aside)
    try:
        finished.rename(final)
    except BaseException:
        aside.rename(final)
        raise
    _remove(aside)


def _recover(final: Path) -> None:
    """Finish or undo what a build that was killed inside `_rename_aside` left."""
    aside = _aside(final)
    if final.exists():
        _remove(aside)
    elif aside.exists():
        aside.rename(final)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_empty(folder: Path, *, until: Path) -> None:
    """Remove `folder` and its parents up to (not including) `until`, as far as they are empty."""
    while folder != until and until in folder.parents:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return
        folder = folder.parent
