"""Versions of installed packages, from one line of their metadata.

`importlib.metadata` parses all of it as an e-mail, which is a tenth of a cached build.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from pathlib import Path

MISSING = "missing"


def installed_version(distribution: str) -> str:
    """The version under which pip knows a distribution, without importing it; "missing" where it is not installed."""
    return _version(distribution, tuple(sys.path))


@cache
def _version(distribution: str, path: tuple[str, ...]) -> str:
    name = _normalized(distribution)
    for folder in path:
        for entry in _metadata_folders(folder).get(name, ()):
            found = _version_line(Path(folder, entry, "METADATA"))
            return found or _slowly(distribution)
    return _slowly(distribution)


@cache
def _metadata_folders(folder: str) -> dict[str, list[str]]:
    """The names of all metadata in a folder of Python's path, by the normalised name of their distribution."""
    try:
        entries = sorted(os.listdir(folder or "."))  # noqa: PTH208 - pathlib makes an object of every name
    except OSError:
        return {}
    found: dict[str, list[str]] = {}
    for entry in entries:
        if entry.endswith((".dist-info", ".egg-info")):
            found.setdefault(_normalized(entry.rpartition(".")[0].partition("-")[0]), []).append(entry)
    return found


def _normalized(name: str) -> str:
    """A name as it is the same however it is spelt (PEP 503, with the underscores of folder names)."""
    return re.sub(r"[-_.]+", "_", name).lower()


def _version_line(metadata: Path) -> str | None:
    """The version among the headers, which end at the first empty line."""
    try:
        headers = metadata.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return None
    found = re.search(r"^Version:\s*(\S+)\s*$", headers, re.MULTILINE)
    return None if found is None else found[1]


def _slowly(distribution: str) -> str:
    """What Python's own finders say, which know eggs, archives and hooks as well."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return MISSING
