"""Whether this machine can build: versions, native libraries, folders, tracking, and what coremltools gets wrong."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

import builder
from builder.errors import ConfigurationError, UnfitEnvironmentError
from builder.noop import cache_folder
from builder.util.install import install_command
from builder.util.room import temporary_place
from builder.util.text import first_of

_DISTRIBUTION = "coreml-builder"
_PYTHONS = ("3.11", "3.12", "3.13")
_NATIVE = ("libmilstoragepython", "libmodelpackage")
_LEAST_FREE, _LITTLE_FREE = 500_000_000, 5_000_000_000
"""Bytes below which nothing can be built, and below which a large model may not be."""
_SECONDS = 3.0
"""How long a tracking server may take to answer."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    about: str
    summary: str
    fit: bool = True
    """Whether builds can work with it as it is."""
    notable: bool = False
    """Whether it is worth a look although it is fit."""
    hint: str | None = None


def examine_installation(outputs: Path) -> tuple[Finding, ...]:
    """Look at everything; nothing is built, and nothing stays written."""
    return (
        _python(),
        *_versions(),
        _tested_set(),
        *_native_libraries(),
        *_torchvision(),
        _core_ai(),
        _folder("cache", Path(cache_folder())),
        _folder("outputs", outputs),
        _folder("temporary files", temporary_place()),
        _tracking(outputs),
        _remote_store(),
        *_bugs(),
    )


def told_installation(found: Sequence[Finding]) -> list[str]:
    """Lines for people: what is unfit first, then what is worth a look, then the rest."""
    ordered = sorted(found, key=lambda finding: (finding.fit, not finding.notable))
    marks = {(False, False): "unfit", (False, True): "unfit", (True, True): "note", (True, False): "ok"}
    width = max(len(finding.about) for finding in ordered)
    lines = []
    for finding in ordered:
        lines.append(f"{marks[finding.fit, finding.notable]:<6} {finding.about:<{width}}  {finding.summary}")
        if finding.hint is not None:
            lines.append(f"{'':<6} {'':<{width}}  -> {finding.hint}")
    unfit = sum(not finding.fit for finding in ordered)
    lines.append(f"{unfit} unfit" if unfit else "fit to build")
    return lines


def _python() -> Finding:
    version = platform.python_version()
    fit = version.rpartition(".")[0] in _PYTHONS
    hint = None if fit else f"use Python {' or '.join(_PYTHONS)}"
    return Finding(about="Python", summary=f"{version} on {platform.system()} {platform.machine()}", fit=fit, hint=hint)


def _versions() -> Iterator[Finding]:
    """What builder needs, against the ranges of pyproject.toml."""
    try:
        needed = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Finding(about="builder", summary="runs without having been installed: ranges are not known", notable=True)
        return
    for requirement in map(Requirement, needed):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        yield _version(requirement)


def _version(requirement: Requirement) -> Finding:
    name = requirement.name
    hint = f"install with `{install_command(name)}`"
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(about=name, summary="is not installed", fit=False, hint=hint)
    if requirement.specifier.contains(installed, prereleases=True):
        return Finding(about=name, summary=f"{installed} is in the tested range {requirement.specifier}")
    why = ""
    if name == "numpy" and Version(installed) >= Version("2.4"):
        why = ": coremltools 9.0 breaks on it wherever a graph reads a size (apple/coremltools#2633)"
    return Finding(
        about=name, summary=f"{installed} is not in the range {requirement.specifier}{why}", fit=False, hint=hint
    )


def _tested_set() -> Finding:
    """Against the exact versions that builder's own tests ran with."""
    file = _constraints()
    if file is None:
        return Finding(about="tested set", summary="constraints.txt did not come with this installation", notable=True)
    differing = []
    for line in file.read_text(encoding="utf-8").splitlines():
        name, _, pinned = line.partition("#")[0].strip().partition("==")
        if not pinned:
            continue
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an optional package that is not needed here; one that is needed has a line of its own
        if Version(installed).public != Version(pinned.partition(";")[0].strip()).public:
            differing.append(f"{name} {installed} (tested {pinned})")
    return Finding(
        about="tested set", summary=first_of(differing, 6) or "every version is the tested one", notable=bool(differing)
    )


def _constraints() -> Path | None:
    package = Path(builder.__file__).parent
    return next((f for f in (package / "constraints.txt", package.parent / "constraints.txt") if f.is_file()), None)


_LOAD = """
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec
from builder.util.text import first_of
name, path = sys.argv[1:]
loader = ExtensionFileLoader(name, path)
loader.exec_module(module_from_spec(ModuleSpec(name, loader, origin=path)))
"""
"""Run in a process of its own: a compiled module registers its types once, and coremltools would fail to."""


def _native_libraries() -> Iterator[Finding]:
    """Coremltools' compiled modules, loaded without the rest of it; its pure wheel cannot write weights (#2695)."""
    spec = importlib.util.find_spec("coremltools")
    if spec is None or spec.origin is None:
        return  # its line among the versions tells
    for name in _NATIVE:
        trouble = _why_not_loaded(name, Path(spec.origin).parent)
        wording = "loads" if trouble is None else f"does not load ({trouble}): apple/coremltools#2695"
        hint = "use Python 3.11 on Linux x86-64 or macOS, for which there is a whole wheel"
        yield Finding(
            about=f"coremltools {name}", summary=wording, fit=trouble is None, hint=None if trouble is None else hint
        )


def _why_not_loaded(name: str, folder: Path) -> str | None:
    files = sorted(folder.glob(f"{name}*.so"))
    if not files:
        return "there is no such file"
    command = [sys.executable, "-c", _LOAD, name, str(files[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it crashed"])[-1]


def _torchvision() -> Iterator[Finding]:
    """Whether torchvision was made for the installed torch, and imports beside it."""
    try:
        needed = next((r for r in map(Requirement, metadata.requires("torchvision") or []) if r.name == "torch"), None)
        torch_version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return  # as above
    if needed is not None and not needed.specifier.contains(Version(torch_version).public, prereleases=True):
        yield Finding(
            about="torch and torchvision",
            summary=f"torchvision was made for torch{needed.specifier}, and torch {torch_version} is installed",
            fit=False,
            hint=f"install both with `{install_command('torch', 'torchvision')}`",
        )
        return
    from builder.model.torchvision_import import import_torchvision, stands_in

    try:
        import_torchvision()
    except UnfitEnvironmentError as error:
        yield Finding(about="torch and torchvision", summary=error.message, fit=False, hint=error.hint)
        return
    wording = f"fit each other ({torch_version})"
    if stands_in():
        wording += "; torchvision's compiled operators do not load, and builder's stand in for them"
    yield Finding(about="torch and torchvision", summary=wording)


def _core_ai() -> Finding:
    """Whether `format: aimodel` can be built here: an extra, for which Apple has wheels for few machines."""
    from builder.backends.coreai.installed import COMMAND, check_installed, why_no_wheel

    reason = why_no_wheel()
    if reason is not None:
        return Finding(about="Core AI", summary=f"cannot be built here: {reason}")
    try:
        check_installed()
    except UnfitEnvironmentError:
        return Finding(about="Core AI", summary="`format: aimodel` needs the extra coreai", hint=COMMAND)
    return Finding(about="Core AI", summary="coreai-core and coreai-torch are in the pinned versions")


def _folder(about: str, folder: Path) -> Finding:
    """Whether a folder, or the nearest that exists above it, takes files, and how much is free there."""
    there = next(f for f in (folder, *folder.absolute().parents) if f.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        hint = "set BUILDER_CACHE to a folder that can be written" if about == "cache" else f"make {there} writable"
        return Finding(about=about, summary=f"{there} cannot be written: {error.strerror}", fit=False, hint=hint)
    wording = f"{folder}: {free / 1e9:.1f} GB free"
    if free < _LITTLE_FREE:
        return Finding(about=about, summary=wording, fit=free >= _LEAST_FREE, notable=True, hint="free some space")
    return Finding(about=about, summary=wording)


def _tracking(outputs: Path) -> Finding:
    """The server that the environment names; what a recipe says is looked at when it is built."""
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        return Finding(
            about="tracking", summary=f"sqlite in {outputs / 'mlflow.db'}, since MLFLOW_TRACKING_URI is not set"
        )
    shown = _without_password(address)
    if not address.startswith(("http:", "https:")):
        return Finding(about="tracking", summary=f"{shown} (not a server, so nothing was asked)")
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=_SECONDS) as answer:
            return Finding(about="tracking", summary=f"{shown} answers ({answer.status})")
    except urllib.error.HTTPError as error:
        return Finding(about="tracking", summary=f"{shown} answers ({error.code})", notable=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Finding(
            about="tracking",
            summary=f"{shown} does not answer: {reason}",
            notable=True,
            hint="builds wait in the outbox until it does; with `tracking.required` they fail",
        )


def _remote_store() -> Finding:
    """The store that the environment names behind the local one: whether it answers, and what waits for it."""
    from builder.store.remote.address import VARIABLE, remote_address
    from builder.store.remote.client import Client, OutageError
    from builder.store.remote.remote import LAYOUT, Marks

    about = "remote store"
    try:
        address = remote_address()
    except (ConfigurationError, UnfitEnvironmentError) as error:
        return Finding(about=about, summary=error.message, fit=False, hint=error.hint)
    if address is None:
        return Finding(about=about, summary=f"none, since {VARIABLE} is not set")
    waiting = len(Marks(address, Path(cache_folder()) / "store").waiting())
    access = "read and written" if address.can_write else "only read"
    behind = f"; {waiting} results wait to be sent" if waiting else ""
    client = Client()
    try:
        client.size(f"{LAYOUT}/answers")
    except OutageError as error:
        wording = f"{address} ({access}) does not answer: {error}{behind}"
        hint = "builds work without it, and what they would send waits; `python -m builder flush` sends it"
        return Finding(about=about, summary=wording, notable=True, hint=hint)
    finally:
        client.close()
    return Finding(about=about, summary=f"{address} ({access}) answers{behind}")


def _without_password(address: str) -> str:
    scheme, separator, rest = address.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _bugs() -> Iterator[Finding]:
    from builder.backends.coreml.preflight.known_bugs import bugs_here

    version = metadata.version("coremltools")
    for bug in bugs_here():
        until = f"; {bug.fixed_in} is right" if bug.fixed_in else ""
        yield Finding(about=f"coremltools {version}", summary=f"{bug.summary}{until}", notable=True)
