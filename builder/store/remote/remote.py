"""The remote store as one build sees it: results and objects that arrive, and marks of what is still to be sent."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from builder.progress import Progress
from builder.store.objects import sync_folder
from builder.store.remote.address import Address, remote_address
from builder.store.remote.client import Client, OutageError
from builder.util.paths import write_atomically
from builder.util.reading import read_regular

ROOM = "unsent"
"""The folder beside the store that has an empty file for each result that is still to be sent, by its remote."""
LAYOUT = "v4"
"""The first part of every name in a remote store; raised with the meaning of results (`builder.store.actions`)."""
MOST_OF_RESULT = 1 << 28
SECONDS_OF_RESULT = 30.0
"""Within which a result is there: most have some kilobytes, and a stage that waits longer may as well run."""
_REST = 30.0
"""Seconds for which no build of this machine asks a remote store again that did not answer."""
_READABLE = 0o444
_FREE = 0.9
"""The share of the free disk that one object may take."""


def object_name(digest: str) -> str:
    """Where the remote store has an object."""
    value = digest.partition(":")[2]
    return f"{LAYOUT}/cas/sha256/{value[:2]}/{value}"


def result_name(stage: str, key: str) -> str:
    """Where the remote store has the result of a stage."""
    return f"{LAYOUT}/actions/{stage}/{key.rpartition(':')[2]}.json"


class Remote:
    """A remote store behind a local one. It never fails a build: from the first outage on it has nothing.

    Whoever can write it decides what its results say, as with a shared folder; what arrives is looked at as a
    stranger's, and objects are what their digests say.
    """

    def __init__(self, address: Address, store: Path, progress: Progress) -> None:
        self.address = address
        self.marks = Marks(address, store)
        self._temporary = store / "tmp"
        self._progress = progress
        self._client = Client()
        self._lost = False
        self._refused: set[tuple[str, str]] = set()
        self._arrived = 0

    def result(self, stage: str, key: str) -> bytes | None:
        """The text of a result, which anybody may have written; None where there is none, or no answer."""
        if (stage, key) in self._refused or self._is_lost():
            return None
        self._refused.add((stage, key))  # a result is sought once in a build
        with self._arriving(result_name(stage, key), MOST_OF_RESULT, seconds=SECONDS_OF_RESULT) as file:
            return None if file is None else file.read_bytes()

    def refuse(self, stage: str, key: str) -> None:
        """Do not take a result again in this build, since it turned out to be unusable."""
        self._refused.add((stage, key))

    def fetch(self, digest: str, final: Path) -> None:
        """Bring an object to `final`, unless it is not there, or other than its digest says."""
        if self._is_lost():
            return
        try:
            self._temporary.mkdir(parents=True, exist_ok=True)
            most = int(shutil.disk_usage(self._temporary).free * _FREE)
            with self._arriving(object_name(digest), most) as file:
                if file is not None and self._is_whole(digest, file):
                    final.parent.mkdir(parents=True, exist_ok=True)
                    file.replace(final)
                    sync_folder(final.parent)
        except OSError as error:
            self._lose(f"the local store cannot be written: {error.strerror}")

    def _is_whole(self, digest: str, file: Path) -> bool:
        """Whether an object that arrived is what its digest says; then it is made ready to be moved."""
        with file.open("rb") as stream:
            if f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" == digest:
                os.fchmod(stream.fileno(), _READABLE)
                os.fsync(stream.fileno())
                return True
        self._progress.warn(f"the remote store {self.address} has a damaged object, which is not used", code="B0018")
        self.marks.replace(digest)
        return False

    def mark(self, stage: str, key: str) -> None:
        """Note that a result is to be sent, which `send_behind` or a later command does."""
        if self.address.can_write:
            self.marks.add(stage, key)

    def warn_damaged(self, stage: str) -> None:
        """Say that a result was unusable; after an outage that was said already."""
        if not self._lost:
            message = f"{stage} runs again, since the remote store's result of it is damaged"
            self._progress.warn(message, code="B0018")

    def close(self, *, send: bool) -> None:
        """End the connection, and with `send` let a process that nobody waits for send what waits."""
        self._client.close()
        if not (send and self.address.can_write and self.marks.waiting()):
            return
        failure = self.marks.failure()
        if failure is not None and not self._lost:
            count = len(self.marks.waiting())
            results = "result waits" if count == 1 else "results wait"
            message = f"{count} {results} to be sent to {self.address} ({failure}); `flush` tries again now"
            self._progress.warn(message, code="B0019")
        from builder.store.remote.sender import start_sender

        start_sender(self.marks.store)

    def _is_lost(self) -> bool:
        if not self._lost and (reason := self.marks.recent_outage(_REST)) is not None:
            self._lose(reason)
        return self._lost

    def _lose(self, reason: str) -> None:
        self._lost = True
        self._client.close()
        self._progress.warn(f"the remote store {self.address} is not used in this build: {reason}", code="B0019")

    @contextlib.contextmanager
    def _arriving(self, name: str, most: int, *, seconds: float = math.inf) -> Iterator[Path | None]:
        """A file that has arrived, None where there is none, or no answer; it is removed unless it was moved."""
        file = None
        try:
            self._temporary.mkdir(parents=True, exist_ok=True)
            descriptor, path = tempfile.mkstemp(dir=self._temporary)
            os.close(descriptor)
            file = Path(path)
            there = self._client.get(name, file, most=most, seconds=seconds)
        except OutageError as error:
            self.marks.note_outage(str(error))
            self._lose(str(error))
            there = False
        except OSError as error:
            self._lose(f"the local store cannot be written: {error.strerror}")
            there = False
        try:
            yield file if there else None
        finally:
            if file is not None:
                file.unlink(missing_ok=True)


class Marks:
    """Files beside the local store, one for each result that is to be sent to one remote, and why that failed."""

    def __init__(self, address: Address, store: Path) -> None:
        self.store = store
        self._room = store.parent / ROOM
        self._prefix = f"{address.identity}."

    def add(self, stage: str, key: str) -> None:
        """Mark a result; where that is impossible it is not sent, which costs others time only."""
        self._touch(f"send.{stage}.{key.rpartition(':')[2]}")

    def replace(self, digest: str) -> None:
        """Mark an object of the remote store as damaged, so that it is sent although it is there."""
        self._touch(f"replace.{digest.partition(':')[2]}")

    def waiting(self) -> list[tuple[str, str]]:
        """Stage and key of every result that is to be sent, in a fixed order."""
        parts = (path.name.removeprefix(self._prefix).split(".") for path in self._room.glob(f"{self._prefix}send.*"))
        return sorted((stage, f"sha256:{value}") for _, stage, value in (part for part in parts if len(part) == 3))

    def is_damaged(self, digest: str) -> bool:
        """Whether an object was marked as damaged."""
        return self._file(f"replace.{digest.partition(':')[2]}").exists()

    def sent(self, stage: str, key: str) -> None:
        """Forget a result that was sent, or is gone."""
        self._remove(f"send.{stage}.{key.rpartition(':')[2]}")

    def replaced(self, digest: str) -> None:
        """Forget that an object was damaged."""
        self._remove(f"replace.{digest.partition(':')[2]}")

    @property
    def lock(self) -> Path:
        """The lock of the one process that sends."""
        return self._file("lock")

    @property
    def log(self) -> Path:
        """What the process that sends says."""
        return self._file("log")

    def note_failure(self, reason: str | None) -> None:
        """Keep why sending failed, for the next build to say; None when it worked."""
        self._note("failure", reason)

    def failure(self) -> str | None:
        """Why sending failed the last time."""
        return self._noted("failure")

    def note_outage(self, reason: str) -> None:
        """Keep that the remote did not answer, so that the jobs of a sweep do not all wait for it."""
        self._note("outage", reason)

    def recent_outage(self, seconds: float) -> str | None:
        """Why the remote did not answer, if that was noted within the last seconds."""
        try:
            age = time.time() - self._file("outage").stat().st_mtime
        except OSError:
            return None
        return self._noted("outage") if 0 <= age < seconds else None

    def _note(self, name: str, reason: str | None) -> None:
        if reason is None:
            self._remove(name)
            return
        with contextlib.suppress(OSError):
            self._room.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file(name), reason, private=True)

    def _noted(self, name: str) -> str | None:
        try:
            return read_regular(self._file(name)).decode("utf-8", "replace")[:500]
        except OSError:
            return None

    def _touch(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self._room.mkdir(parents=True, exist_ok=True)
            self._file(name).touch()

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self._file(name).unlink()

    def _file(self, name: str) -> Path:
        return self._room / f"{self._prefix}{name}"


def open_remote(store: Path, progress: Progress) -> Remote | None:
    """The remote store that the environment names, behind the local one at `store`; None for none.

    Raises ConfigurationError and UnfitEnvironmentError as `remote_address`.
    """
    address = remote_address()
    return None if address is None else Remote(address, store, progress)
