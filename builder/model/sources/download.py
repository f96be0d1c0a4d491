"""Download a file of weights once, verified by digest, into a cache that is shared by all builds."""

from __future__ import annotations

import errno
import hashlib
import re
import ssl
import tempfile
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import torch

from builder import __version__
from builder.errors import SourceError
from builder.noop import cache_folder, stream_digest
from builder.progress import Progress
from builder.util.reading import open_regular

_BLOCK = 1 << 20
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[A-Za-z0-9]+$")


class OfflineError(SourceError):
    """There is no way to the server: no name resolution, refused, no answer in time, or a proxy that denies it."""


def fetch(
    url: str,
    *,
    timeout: float,
    progress: Progress,
    sha256: str | None = None,
    sha256_prefix: str | None = None,
    cache: Path | None = None,
) -> Path:
    """Return a verified local copy of `url`, from torch.hub's checkpoints, from the cache, or downloaded now.

    `sha256_prefix` is the beginning of the digest; unless given it is taken from a file name such as
    `mobilenet_v2-b0353104.pth`, as torch.hub does. `timeout` counts seconds without an answer; `cache` is the builder's
    own unless given. Raises OfflineError when the server cannot be reached, SourceError on all else.
    """
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise SourceError(f"{url} cannot be downloaded: only http and https addresses can", code="B0306")
    name = Path(address.path).name or "download"
    if sha256_prefix is None and (found := _DIGEST_IN_NAME.search(name)):
        sha256_prefix = found[1]
    expected = [digest for digest in (sha256, sha256_prefix) if digest is not None]
    folder = (cache or default_cache()) / "downloads" / hashlib.sha256(url.encode()).hexdigest()[:16]
    for present in (Path(torch.hub.get_dir()) / "checkpoints" / name, folder / name):
        if _is_usable(present, expected, known=present.parent == folder):
            progress.detail(f"{name} is at hand: {present}")
            return present
    return _download(url, folder / name, expected, timeout, progress)


def default_cache() -> Path:
    """`BUILDER_CACHE`, or the user's cache folder."""
    return Path(cache_folder())


def file_digest(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal; raises SourceError when it cannot be read."""
    try:
        with open_regular(path) as file:
            return stream_digest(file)
    except FileNotFoundError as error:
        raise SourceError(f"there is no file {path}", code="B0301") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}", code="B0301") from error


def check_digest(path: Path, found: str, expected: str | None) -> None:
    """Raise SourceError unless the file has the digest that the recipe expects, if it expects any."""
    if expected is not None and found != expected:
        raise SourceError(
            f"{path} has the SHA-256 {found}, and the recipe expects {expected}",
            code="B0305",
            hint="the file is not the one that the recipe was written for",
            key="source.sha256",
        )


def _is_usable(path: Path, expected: list[str], *, known: bool) -> bool:
    """Whether `path` holds the file; without a digest only a file that this module wrote is believed."""
    if not path.is_file() or not (expected or known):
        return False
    digest = file_digest(path) if expected else ""
    return all(digest.startswith(start) for start in expected)


def _download(url: str, destination: Path, expected: list[str], timeout: float, progress: Progress) -> Path:
    """Write beside `destination` and rename when all is verified; nothing is left behind on failure."""
    with _open(url, timeout) as response:
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=destination.parent, prefix=".part-", delete=False) as file:
                temporary = Path(file.name)
                try:
                    digest = _receive(url, response, file, destination.name, progress)
                    _verify(url, digest, expected)
                    file.close()
                    temporary.replace(destination)
                finally:
                    temporary.unlink(missing_ok=True)
        except OSError as error:
            raise SourceError(
                f"{destination.name} cannot be stored in {destination.parent}: {error.strerror or error}",
                code="B0301",
                hint="free some space, or let BUILDER_CACHE name a folder on another disk"
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else "let BUILDER_CACHE name a folder that you may write to",
            ) from error
    return destination


def _open(url: str, timeout: float) -> HTTPResponse:
    """Send the request; urllib follows redirects and honours the proxies of the environment."""
    request = urllib.request.Request(url, headers={"User-Agent": f"builder/{__version__}"})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except HTTPError as error:
        error.close()
        raise SourceError(
            f"{url} cannot be downloaded: the server answered {error.code} {error.reason}", code="B0306"
        ) from error
    except (OSError, HTTPException) as error:
        raise _unreachable(url, error, timeout) from error
    assert isinstance(response, HTTPResponse)
    return response


def _receive(url: str, response: HTTPResponse, file: IO[bytes], name: str, progress: Progress) -> str:
    """Copy the body into `file`; return its SHA-256. Raises SourceError when it ends early."""
    length = response.headers.get("Content-Length")
    total = int(length) if length and length.isdecimal() else None
    digest, received = hashlib.sha256(), 0
    with progress.bar(f"Downloading {name}", total, unit="B") as advance:
        while block := _read_block(url, response):
            file.write(block)
            digest.update(block)
            received += len(block)
            advance(len(block))
    if received == 0 or (total is not None and received != total):
        expected = "" if total is None else f" of {total:,}"
        raise SourceError(
            f"the download of {url} ended after {received:,}{expected} bytes",
            code="B0306",
            hint="build again to restart it",
        )
    return digest.hexdigest()


def _read_block(url: str, response: HTTPResponse) -> bytes:
    try:
        return response.read1(_BLOCK)
    except TimeoutError as error:
        raise OfflineError(
            f"the download of {url} stopped: no data in the time that the recipe allows", code="B0306"
        ) from error
    except (OSError, HTTPException) as error:
        raise SourceError(
            f"the download of {url} broke off: {error or type(error).__name__}",
            code="B0306",
            hint="build again to restart it",
        ) from error


def _unreachable(url: str, error: Exception, timeout: float) -> SourceError:
    """Say why there was no answer; only what looks like "no network" becomes an OfflineError."""
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    host = urlsplit(url).hostname
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, TimeoutError):
        return SourceError(
            f"the connection to {host} is not trusted: {cause}", code="B0306", hint="check the system's certificates"
        )
    if isinstance(cause, TimeoutError):
        return OfflineError(f"{host} did not answer within {timeout:g} s ({url})", code="B0306")
    if isinstance(cause, HTTPException) and not isinstance(cause, ConnectionError):
        return SourceError(f"{url} cannot be downloaded: the server's answer is not HTTP ({cause!r})", code="B0306")
    reason = getattr(cause, "strerror", None) or cause
    return OfflineError(f"{host} cannot be reached: {reason} ({url})", code="B0306")


def _verify(url: str, digest: str, expected: list[str]) -> None:
    for start in expected:
        if not digest.startswith(start):
            raise SourceError(
                f"what {url} delivered has the SHA-256 {digest}, and it must begin with {start}"
                if len(start) < len(digest)
                else f"what {url} delivered has the SHA-256 {digest}, and it must be {start}",
                code="B0305",
                hint="the file was changed on its way or on the server; nothing was kept",
            )
