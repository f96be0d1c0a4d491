"""The content-addressed half of the store: files by their digest, folders as manifests of files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from builder.store.digests import canonical, empty_folders, files_below
from builder.util.links import refuse_links
from builder.util.reading import is_inner_path, open_regular, parse_json

_FICLONE = 0x40049409
"""The ioctl of Linux that makes one file share another's blocks until either is written (`linux/fs.h`)."""
_BLOCK = 1 << 20
_READABLE = 0o444
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FOLDER = ""
"""What a manifest has in the place of a digest for a folder without any file; its name ends in `/`."""


class CorruptError(Exception):
    """What the store holds under a digest has another one, or is gone."""


class Objects:
    """Files under `cas/sha256/ab/<hex>`; what is written is complete and synced before it has its name."""

    def __init__(self, root: Path, *, fetch: Callable[[str, Path], None] | None = None) -> None:
        self.root = root
        self._fetch = fetch
        """Brings an object by its digest to a path, if it can."""
        self.failures: list[OSError] = []
        """Why objects could not be written; their digests are right all the same."""
        self._temporary = root / "tmp"

    def path(self, digest: str) -> Path:
        """Where the object of a digest lies; raises CorruptError where it is not a digest, but another way."""
        if not is_digest(digest):
            raise CorruptError(f"{digest!r} is not a digest")
        value = digest.partition(":")[2]
        return self.root / "cas" / "sha256" / value[:2] / value

    def _wanted(self, digest: str) -> Path:
        """The same for an object that is read: where it is not here, it is brought, if that is possible."""
        path = self.path(digest)
        if self._fetch is not None and not os.path.lexists(path):
            self._fetch(digest, path)
        return path

    def put_bytes(self, data: bytes) -> str:
        """Store `data` and return its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if not self._has(digest, len(data)):
            self._discard_unfit(digest)
            self._write(digest, io.BytesIO(data))
        return digest

    def put_file(self, file: Path, *, take: bool = False) -> str:
        """Store a copy of `file` and return its digest; with `take` the file itself, where that is possible."""
        with open_regular(file) as source:
            digest = f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"
            if self._has(digest, os.fstat(source.fileno()).st_size):
                return digest
            self._discard_unfit(digest)
            if not (take and self._take(digest, file, source.fileno())):
                source.seek(0)
                self._write(digest, source)
        return digest

    def _take(self, digest: str, file: Path, descriptor: int) -> bool:
        """Let the object of a digest be `file`, which is gone then; False where it lies on another file system."""
        path = self.path(digest)
        try:
            refuse_links(path.parent, self.root)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.fchmod(descriptor, _READABLE)
            os.fsync(descriptor)
            file.replace(path)
        except OSError:
            return False
        sync_folder(path.parent)
        return True

    def put_folder(self, folder: Path) -> str:
        """Store the files of a folder and its empty folders, and return the digest of their sorted manifest."""
        files = {name: self.put_file(file) for name, file in files_below(folder)}
        return self.put_manifest(files | {f"{name}/": _FOLDER for name in empty_folders(folder)})

    def put_manifest(self, files: Mapping[str, str]) -> str:
        """Store a manifest, digests by relative name (none for an empty folder), and return its digest."""
        return self.put_bytes(canonical(dict(files)).encode())

    def read_bytes(self, digest: str) -> bytes:
        """Return an object; raises CorruptError (and removes it) when it is not what its name says."""
        try:
            with open_regular(self._wanted(digest)) as stream:
                data = stream.read()
        except OSError as error:
            self._discard_unfit(digest)
            raise CorruptError(f"{digest} cannot be read: {error.strerror}") from error
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            self.discard(digest)
            raise CorruptError(f"{digest} was damaged")
        return data

    def read_manifest(self, digest: str) -> dict[str, str]:
        """Return the digests of a folder's files by relative name; raises CorruptError where one leads out of it."""
        try:
            manifest = parse_json(self.read_bytes(digest))
        except ValueError as error:
            raise CorruptError(f"{digest} is not a manifest: {error}") from error
        if not isinstance(manifest, dict) or not all(_is_entry(name, value) for name, value in manifest.items()):
            raise CorruptError(f"{digest} is not a manifest")
        return manifest

    def restore_file(self, digest: str, target: Path) -> None:
        """Write an object to `target`, which must not exist: blocks shared where the file system can, else a copy."""
        try:
            source = open_regular(self._wanted(digest))
        except FileNotFoundError as error:
            raise CorruptError(f"{digest} is gone") from error
        except OSError as error:
            self._discard_unfit(digest)
            raise CorruptError(f"{digest} cannot be read: {error.strerror}") from error
        with source:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as stream:
                with contextlib.suppress(OSError):
                    fcntl.ioctl(stream.fileno(), _FICLONE, source.fileno())
                if os.fstat(stream.fileno()).st_size == 0:
                    _copy(source, stream)
        with target.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if f"sha256:{found}" != digest:
            target.unlink()
            self.discard(digest)
            raise CorruptError(f"{digest} was damaged")

    def restore_folder(self, digest: str, target: Path) -> None:
        """Write a folder; `target` may exist. Raises CorruptError where the manifest is not one of a folder."""
        target.mkdir(parents=True, exist_ok=True)
        try:
            for name, file in self.read_manifest(digest).items():
                if file == _FOLDER:
                    (target / name).mkdir(parents=True, exist_ok=True)
                else:
                    self.restore_file(file, target / name)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:  # one name is a file and a folder
            raise CorruptError(f"{digest} is not the manifest of a folder") from error

    def discard(self, digest: str) -> None:
        """Remove a damaged object, where the store can be written; a folder in its place as well."""
        with contextlib.suppress(OSError, CorruptError):
            path = self.path(digest)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _discard_unfit(self, digest: str) -> None:
        """Remove what is not a file, so that an object can be written in its place."""
        with contextlib.suppress(OSError, CorruptError):
            if not self.path(digest).is_file():
                self.discard(digest)

    def _has(self, digest: str, size: int) -> bool:
        """Whether an object is there and undamaged: what is stored again must mend what was damaged unnoticed."""
        path = self.path(digest)
        try:
            if path.stat().st_size != size:
                return False
            with open_regular(path) as stream:
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


def is_digest(value: object) -> bool:
    """Whether a text is a digest as this store writes it, and not a way to another file."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_entry(name: object, value: object) -> bool:
    """Whether a manifest may name this file, or this empty folder, so that it is written inside the folder."""
    if value == _FOLDER:
        return isinstance(name, str) and name.endswith("/") and is_inner_path(name[:-1])
    return is_digest(value) and is_inner_path(name)


@contextmanager
def atomic_file(final: Path, temporary_folder: Path) -> Iterator[IO[bytes]]:
    """Yield a stream whose file takes the name `final` once it is written and synced; nothing is left on failure.

    Who may read the file is up to the umask, as for any file: people who share a store read what others wrote.
    Raises OSError where a folder is a link, from the one that has the temporary folder on.
    """
    for folder in (temporary_folder, final.parent):
        refuse_links(folder, temporary_folder.parent)
    temporary_folder.mkdir(parents=True, exist_ok=True)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_folder / uuid.uuid4().hex
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
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
