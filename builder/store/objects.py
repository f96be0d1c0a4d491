"""The content-addressed half of the store: files by their digest, folders as manifests of files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from builder.store.digests import canonical, files_below

_FICLONE = 0x40049409
"""The ioctl of Linux that makes one file share another's blocks until either is written (`linux/fs.h`)."""
_BLOCK = 1 << 20
_READABLE = 0o444


class CorruptError(Exception):
    """What the store holds under a digest has another one, or is gone."""


class Objects:
    """Files under `cas/sha256/ab/<hex>`; what is written is complete and synced before it has its name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.failures: list[OSError] = []
        """Why objects could not be written; their digests are right all the same."""
        self._temporary = root / "tmp"

    def path(self, digest: str) -> Path:
        """Where the object of a digest lies."""
        algorithm, _, value = digest.partition(":")
        return self.root / "cas" / algorithm / value[:2] / value

    def put_bytes(self, data: bytes) -> str:
        """Store `data` and return its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if not self._has(digest, len(data)):
            self._write(digest, io.BytesIO(data))
        return digest

    def put_file(self, file: Path) -> str:
        """Store a copy of `file` and return its digest."""
        with file.open("rb") as source:
            digest = f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"
            if self._has(digest, os.fstat(source.fileno()).st_size):
                return digest
            source.seek(0)
            self._write(digest, source)
        return digest

    def put_folder(self, folder: Path) -> str:
        """Store the files of a folder, and return the digest of their sorted manifest."""
        return self.put_manifest({name: self.put_file(file) for name, file in files_below(folder)})

    def put_manifest(self, files: Mapping[str, str]) -> str:
        """Store a manifest, digests by relative name, and return its digest."""
        return self.put_bytes(canonical(dict(files)).encode())

    def read_bytes(self, digest: str) -> bytes:
        """Return an object; raises CorruptError (and removes it) when it is not what its name says."""
        try:
            data = self.path(digest).read_bytes()
        except OSError as error:
            raise CorruptError(f"{digest} cannot be read: {error.strerror}") from error
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            self.discard(digest)
            raise CorruptError(f"{digest} was damaged")
        return data

    def read_manifest(self, digest: str) -> dict[str, str]:
        """Return the digests of a folder's files by relative name."""
        manifest = json.loads(self.read_bytes(digest))
        return {str(name): str(value) for name, value in manifest.items()}

    def restore_file(self, digest: str, target: Path) -> None:
        """Write an object to `target`, which must not exist: blocks shared where the file system can, else a copy."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.path(digest).open("rb") as source, target.open("xb") as stream:
                with contextlib.suppress(OSError):
                    fcntl.ioctl(stream.fileno(), _FICLONE, source.fileno())
                if os.fstat(stream.fileno()).st_size == 0:
                    _copy(source, stream)
        except FileNotFoundError as error:
            raise CorruptError(f"{digest} is gone") from error
        with target.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if f"sha256:{found}" != digest:
            target.unlink()
            self.discard(digest)
            raise CorruptError(f"{digest} was damaged")

    def restore_folder(self, digest: str, target: Path) -> None:
        """Write a folder; `target` may exist."""
        target.mkdir(parents=True, exist_ok=True)
        for name, file in self.read_manifest(digest).items():
            self.restore_file(file, target / name)

    def discard(self, digest: str) -> None:
        """Remove a damaged object, where the store can be written."""
        with contextlib.suppress(OSError):
            self.path(digest).unlink()

    def _has(self, digest: str, size: int) -> bool:
        """Whether an object is there and undamaged: what is stored again must mend what was damaged unnoticed."""
        path = self.path(digest)
        try:
            if path.stat().st_size != size:
                return False
            with path.open("rb") as stream:
                return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" == digest
        except OSError:
            return False

    def _write(self, digest: str, source: IO[bytes]) -> None:
        try:
            with atomic_file(self.path(digest), self._temporary) as target:
                _copy(source, target)
                os.fchmod(target.fileno(), _READABLE)
        except OSError as error:
            self.failures.append(error)


@contextmanager
def atomic_file(final: Path, temporary_folder: Path) -> Iterator[IO[bytes]]:
    """Yield a stream whose file takes the name `final` once it is written and synced; nothing is left on failure."""
    temporary_folder.mkdir(parents=True, exist_ok=True)
    final.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=temporary_folder)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the file system offers that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while block := source.read(_BLOCK):
        target.write(block)
