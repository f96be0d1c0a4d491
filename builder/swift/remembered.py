"""A Swift interface from the cache: importing Jinja and compiling templates takes longer than a whole report."""

from __future__ import annotations

import os
from pathlib import Path

from builder import noop
from builder.store.code import PACKAGE, package_stats
from builder.store.digests import digest_of
from builder.store.versions import installed_version
from builder.swift.interface import Package

_TEMPLATES = PACKAGE / "swift" / "templates"


def interface_source(package: Package) -> str:
    """`render.interface_source`; made anew where a file of ours, or Jinja, is another than when it was made."""
    path = Path(noop.cache_folder()) / "swift" / f"{_key(package).removeprefix('sha256:')[:32]}.json"
    try:
        source = noop.read_manifest(str(path))["source"]
        os.utime(path)  # it is used, so it is not garbage yet
    except (OSError, ValueError, KeyError, TypeError):
        from builder.swift import render

        source = render.interface_source(package)
        noop.write_manifest(str(path), {"source": source})
    return str(source)


def _key(package: Package) -> str:
    with os.scandir(_TEMPLATES) as entries:
        templates = sorted((entry.name, entry.stat().st_mtime_ns, entry.stat().st_size) for entry in entries)
    return digest_of([repr(package), list(package_stats().items()), templates, installed_version("jinja2")])
