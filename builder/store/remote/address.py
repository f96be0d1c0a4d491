"""Where the remote store is: what `BUILDER_REMOTE` and `BUILDER_REMOTE_ACCESS` say."""

from __future__ import annotations

import hashlib
import importlib.util
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from builder.errors import ConfigurationError, UnfitEnvironmentError
from builder.util.install import extra
from builder.util.redact import redacted

VARIABLE = "BUILDER_REMOTE"
ACCESS = "BUILDER_REMOTE_ACCESS"

_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "file": (),
    "s3": ("fsspec", "s3fs"),
    "gs": ("fsspec", "gcsfs"),
    "https": ("fsspec", "aiohttp"),
    "http": ("fsspec", "aiohttp"),
}
"""By scheme: what must be installed."""
MOST = 4096
"""Characters of an address; no path may have more."""
_ACCESS = re.compile(r"[^/]*:[^/]*@")
"""How `user:password@host` begins, which is not a name that a folder has."""
_READ_ONLY = ("https", "http")
_KNOWN = "s3://bucket/prefix, gs://bucket/prefix, https://host/path, or a folder"


@dataclass(frozen=True, kw_only=True)
class Address:
    """A remote store; its text has no password, which the environment of the protocol gives (`AWS_PROFILE`, …)."""

    scheme: str
    text: str
    """The URL without a slash at its end; of a folder its absolute path."""
    can_write: bool

    @property
    def identity(self) -> str:
        """What names files about this remote in the cache folder."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return self.text


def remote_address() -> Address | None:
    """The remote store that the environment names, None for none.

    Raises ConfigurationError where it cannot be one, and UnfitEnvironmentError where its packages are not installed.
    """
    given = os.environ.get(VARIABLE, "").strip()
    return parse_address(given, os.environ.get(ACCESS, "").strip()) if given else None


def parse_address(given: str, access: str = "") -> Address:
    """Read an address, and `read` or `write` or nothing; raises as `remote_address`."""
    if access not in ("", "read", "write"):
        raise _wrong(f"{ACCESS}={access[:80]!r} is neither `read` nor `write`")
    if not given.isprintable() or len(given) > MOST:
        raise _wrong(f"{VARIABLE} is not an address: it is too long, or has characters that cannot be printed")
    if _ACCESS.match(given):
        raise _wrong(f"{VARIABLE} has a user and a password in it, and no scheme such as s3://", hint=f"{_KNOWN}")
    scheme, separator, rest = given.partition("://")
    scheme = scheme.lower() if separator else "file"
    if scheme not in _PACKAGES:
        raise _wrong(f"{VARIABLE}: a remote store cannot be at {scheme}://", hint=f"what can be one: {_KNOWN}")
    text = _folder(given, rest if separator else given) if scheme == "file" else _url(given, scheme)
    if access == "write" and scheme in _READ_ONLY:
        raise _wrong(f"{ACCESS}=write: a store at {scheme}:// can only be read")
    if missing := [name for name in _PACKAGES[scheme] if importlib.util.find_spec(name) is None]:
        raise UnfitEnvironmentError(
            f"{VARIABLE}={text} needs the package {missing[0]}",
            code="B0701",
            hint=f"install it with `{extra('remote') if scheme != 'gs' else 'pip install gcsfs'}`",
        )
    return Address(scheme=scheme, text=text, can_write=scheme not in _READ_ONLY and access != "read")


def _folder(given: str, path: str) -> str:
    if "\0" in path or not path:
        raise _wrong(f"{VARIABLE} names no folder")
    decoded = unquote(path) if "://" in given else path
    if "://" in given and not decoded.startswith("/"):
        raise _wrong(f"{VARIABLE}={given}: a file:// address has an absolute path, with three slashes")
    try:
        folder = Path(decoded).expanduser().absolute()
    except RuntimeError as error:  # the home of a user whom nobody knows
        raise _wrong(f"{VARIABLE}={given} is not a folder: {error}") from error
    if folder.exists() and not folder.is_dir():
        raise _wrong(f"{VARIABLE}={given} is not a folder")
    return str(folder)


def _url(given: str, scheme: str) -> str:
    try:
        parsed = urlsplit(given)
        _ = parsed.port
    except ValueError as error:
        raise _wrong(f"{VARIABLE} is not an address: {redacted(str(error))}") from error
    if "@" in parsed.netloc or parsed.query or parsed.fragment:
        raise _wrong(
            f"{VARIABLE} has a user, a password or a query in it, which records and logs would show",
            hint="credentials come from where the protocol's own tools take them: AWS_PROFILE, "
            "GOOGLE_APPLICATION_CREDENTIALS, ~/.netrc",
        )
    if not parsed.hostname or not given.isprintable() or " " in given:
        raise _wrong(f"{VARIABLE}={given} names no {'host' if scheme in _READ_ONLY else 'bucket'}", hint=_KNOWN)
    if scheme == "http" and not _is_loopback(parsed):
        raise _wrong(f"{VARIABLE}={given}: whoever is on the way could change what is read", hint="use https://")
    return f"{scheme}://{parsed.netloc}{parsed.path.rstrip('/')}"


def _is_loopback(parsed: SplitResult) -> bool:
    name = parsed.hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _wrong(message: str, hint: str | None = None) -> ConfigurationError:
    return ConfigurationError(message, code="B0238", hint=hint)
