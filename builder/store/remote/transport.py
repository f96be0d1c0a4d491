"""Reads and writes files of a remote store: a folder with the standard library, all else with fsspec."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any, Protocol

from builder.noop import is_trusted
from builder.store.objects import atomic_file
from builder.store.remote.address import Address
from builder.util.reading import open_regular

CONNECT_SECONDS, READ_SECONDS = 3, 5


class Transport(Protocol):
    """Files by their name below the remote's root; whatever goes wrong raises, a file that is absent does not."""

    def get(self, name: str, target: Path) -> bool:
        """Write a file to `target`; False where there is none of that name."""

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none, and -1 where nobody knows."""

    def put(self, source: Path, name: str) -> None:
        """Write a file, so that readers see all of it or nothing."""


def open_transport(address: Address) -> Transport:
    """The transport of an address; nothing is asked yet."""
    return Folder(Path(address.text)) if address.scheme == "file" else Filesystem(address)


class Folder:
    """A folder that this machine reaches, such as a network file system. Results of foreign users are not read."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, name: str, target: Path) -> bool:
        """As Transport; raises PermissionError for a result of a user who is not trusted (`noop.is_trusted`)."""
        self._check()
        try:
            source = open_regular(self._root / name)
        except FileNotFoundError:
            return False
        with source:
            owner = os.fstat(source.fileno()).st_uid
            if name.endswith(".json") and not is_trusted(owner):
                raise PermissionError(errno.EPERM, f"results of the user {owner} are not used (BUILDER_TRUSTED_OWNERS)")
            with target.open("wb") as stream:
                shutil.copyfileobj(source, stream)
        return True

    def size(self, name: str) -> int | None:
        """As Transport."""
        self._check()
        try:
            return (self._root / name).stat().st_size
        except FileNotFoundError:
            return None

    def put(self, source: Path, name: str) -> None:
        """As Transport."""
        self._check()
        mask = os.umask(0o022)
        os.umask(mask)
        with open_regular(source) as stream, atomic_file(self._root / name, self._root / "tmp") as target:
            shutil.copyfileobj(stream, target)
            os.fchmod(target.fileno(), (0o644 if name.endswith(".json") else 0o444) & ~mask)

    def _check(self) -> None:
        """A disk that is not mounted is not an empty store, and nothing is written in its place."""
        if not self._root.is_dir():
            raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(self._root))


class Filesystem:
    """What fsspec reaches."""

    def __init__(self, address: Address) -> None:
        self._root = address.text
        self._system = _filesystem(address.scheme)

    def get(self, name: str, target: Path) -> bool:
        """As Transport."""
        try:
            self._system.get_file(f"{self._root}/{name}", str(target))
        except FileNotFoundError as error:
            _refuse_absent_bucket(error)
            return False
        return True

    def size(self, name: str) -> int | None:
        """As Transport."""
        try:
            size = self._system.info(f"{self._root}/{name}").get("size")
        except FileNotFoundError as error:
            _refuse_absent_bucket(error)
            return None
        return -1 if size is None else int(size)

    def put(self, source: Path, name: str) -> None:
        """As Transport: these protocols show an object when all of it is there."""
        self._system.put_file(str(source), f"{self._root}/{name}")


def _refuse_absent_bucket(error: FileNotFoundError) -> None:
    """Raise where a whole bucket is absent, which is a mistake in the address, and not a store without that file."""
    if "bucket does not exist" in str(error).lower():  # the name of a bucket may have the word in it
        raise ConnectionError(str(error)) from error


def _filesystem(scheme: str) -> Any:
    import fsspec

    known = {"skip_instance_cache": True, "use_listings_cache": False}
    if scheme == "s3":
        once = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS, "retries": {"max_attempts": 0}}
        system = fsspec.filesystem("s3", config_kwargs=once, **known)
        system.retries = 1
        return system
    if scheme == "gs":
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # or it asks what kind of bucket it is
        return fsspec.filesystem("gcs", timeout=READ_SECONDS, cache_timeout=0, **known)
    return fsspec.filesystem(scheme, client_kwargs={"trust_env": True}, **known)  # ~/.netrc, proxies
