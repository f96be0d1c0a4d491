"""Which source files a piece of code reaches: found by its import statements, without importing anything.

Names that are put together at run time are not seen, nor are files that the code opens itself. That an import runs
the `__init__.py` of packages above does not count for our own modules, which do nothing but define.
"""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from builder.store.digests import StatCache, digest_of, file_digest
from builder.store.imports import scan, scan_own
from builder.store.versions import installed_version

PACKAGE = Path(__file__).resolve().parents[1]
"""Builder's own package."""
_RUNTIME = "coreml_runtime"

_GUARDS = frozenset(
    f"util/{name}.py"
    for name in ("bounded", "child", "memory", "process_state", "redact", "shared_record", "suggest", "text")
)
"""Modules that watch over code, or word and hide what is shown: no result depends on them."""
_FINDERS = {"pkgutil", "importlib", "importlib.import_module"}
"""A package of ours that imports one of these finds its modules at run time, so that all of them are reached."""

_WITH = {"coremltools": ("protobuf",)}
"""What decides about an artifact although we do not import it ourselves."""

_HARMLESS = {"hydra", "omegaconf", "pydantic", "platformdirs", "rich", "typing_extensions", "yaml"}
"""Packages that carry values and never change them."""

_DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "google": "protobuf",
    "cv2": "opencv-python",
    "coreai": "coreai-core",
}
"""Import names that differ from the names under which packages are installed."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """The files that code reaches, and the installed packages that they import."""

    files: tuple[Path, ...]
    packages: tuple[str, ...]
    missing: tuple[Path, ...] = field(default=())
    """Where a file would be found before the one that is, if it existed."""


def user_code(module: str, remembered: StatCache, *, search: Sequence[Path] | None = None) -> Code:
    """The local files that importing `module` reaches, sought in the working directory and `sys.path` unless given."""
    folders = list(search) if search is not None else search_folders()
    files: dict[Path, str] = {}
    packages: set[str] = set()
    missing: set[Path] = set()
    waiting = [module]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name.startswith("."):
            continue
        seen.add(name)
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            prefix = ".".join(parts[:length])
            found = _find(prefix, folders, missing)
            if found is None:
                break
            if not _is_local(found):
                packages.add(parts[0])
                break
            if found.is_dir() or found in files:
                continue
            files[found] = prefix
            package = prefix if found.name == "__init__.py" else prefix.rpartition(".")[0]
            waiting += [_absolute(n, package) for n in remembered.get("imports", found, scan)["modules"]]
    return Code(files=tuple(sorted(files)), packages=tuple(sorted(packages)), missing=tuple(sorted(missing)))


def search_folders() -> list[Path]:
    """Where Python looks for modules when a factory is imported: the working directory first."""
    return list(dict.fromkeys([Path.cwd(), *(Path(entry).absolute() for entry in sys.path if entry)]))


def _find(module: str, folders: Sequence[Path], missing: set[Path]) -> Path | None:
    """The file of a module (a folder where it is a package without `__init__.py`), as the path finder sees it."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return None
    relative = module.replace(".", os.sep)
    tried: list[Path] = []
    namespace = None
    for folder in folders:
        for candidate in (folder / relative / "__init__.py", folder / f"{relative}.py"):
            if candidate.is_file():
                missing.update(tried)
                return candidate
            if _is_local(candidate):
                tried.append(candidate)
        if namespace is None and (folder / relative).is_dir():
            namespace = folder / relative
        if any((folder / relative).parent.glob(f"{relative.rpartition(os.sep)[2]}.*.so")):
            return (folder / relative).with_suffix(".so")
    missing.update(tried)
    return namespace


def _is_local(path: Path) -> bool:
    """Whether a file belongs to the user: it lies neither in an installed package, nor in Python, nor is it ours."""
    if is_own(path):
        return False
    parts = path.parts
    if "site-packages" in parts or "dist-packages" in parts:
        return False
    return not any(path.is_relative_to(folder) for folder in _standard_library())


@cache
def _standard_library() -> frozenset[str]:
    return frozenset(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))


def _absolute(name: str, package: str) -> str:
    """A module name as a file of `package` writes it, without its leading dots."""
    dots = len(name) - len(name.lstrip("."))
    if not dots:
        return name
    parts = package.split(".") if package else []
    kept = parts[: len(parts) - (dots - 1)]
    return ".".join([*kept, name.lstrip(".")]).rstrip(".")


@cache
def runtime_package() -> Path:
    """The package `coreml_runtime`, whose files are ours wherever it is installed; importing it runs three lines."""
    return Path(str(importlib.import_module(_RUNTIME).__file__)).resolve().parent


def is_own(path: Path) -> bool:
    """Whether a file is builder's or the runtime's."""
    return path.is_relative_to(PACKAGE) or path.is_relative_to(runtime_package())


def own_file(name: str) -> Path:
    """The file of a name of `package_stats`."""
    return Path(own_path(name))


def own_path(name: str) -> str:
    """The same as text: a `Path` takes longer to make than a file to look at."""
    return f"{_runtime_folder()}/{name}" if name.startswith(f"{_RUNTIME}/") else f"{PACKAGE}/{name}"


@cache
def _runtime_folder() -> Path:
    return runtime_package().parent


@dataclass(frozen=True, kw_only=True)
class OwnCode:
    """What one stage reaches in builder and the runtime: a digest of it, and the packages that it imports."""

    digest: str
    packages: tuple[str, ...]


def own_code(modules: Sequence[str], remembered: StatCache) -> OwnCode:
    """What modules of builder, such as `stages/load.py`, reach.

    It is worked out again whenever any file of the package has changed.
    """
    return remembered.for_now(f"own {' '.join(modules)}", lambda: _own_code(modules, remembered))


def _own_code(modules: Sequence[str], remembered: StatCache) -> OwnCode:
    package = remembered.for_now("package", _package)
    known = remembered.under(f"own {' '.join(modules)}", package.signature, last=package.last)
    found = known.get("value")
    if found is None:
        files, packages = _reached(modules, package, remembered)
        digests = {name: remembered.get("digest", package.files[name], file_digest) for name in files}
        found = known["value"] = [digest_of(digests), packages]
    return OwnCode(digest=found[0], packages=tuple(found[1]))


@dataclass(frozen=True, kw_only=True)
class _Package:
    """Every source file of ours, as it is now."""

    names: tuple[str, ...]
    signature: str
    """A digest of their names and stats."""
    last: int
    """When one of them changed last, in nanoseconds."""

    @cached_property
    def files(self) -> Mapping[str, Path]:
        """By name, where it lies; a build that the store answers needs none."""
        return {name: own_file(name) for name in self.names}


def _package() -> _Package:
    stats = package_stats()
    return _Package(
        names=tuple(stats),
        signature=digest_of([[name, *stat] for name, stat in stats.items()]),
        last=max(max(stat[:2]) for stat in stats.values()),
    )


def package_stats() -> dict[str, tuple[int, ...]]:
    """Every source file of builder by its name in the package, and of the runtime as `coreml_runtime/…`; its stat."""
    found: dict[str, tuple[int, ...]] = {}
    folders = [(str(PACKAGE), ""), (str(runtime_package()), f"{_RUNTIME}/")]
    while folders:
        folder, prefix = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir() and entry.name != "__pycache__":
                    folders.append((entry.path, f"{prefix}{entry.name}/"))
                elif entry.name.endswith(".py"):
                    stat = entry.stat()
                    found[f"{prefix}{entry.name}"] = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
    return dict(sorted(found.items()))


def _reached(modules: Sequence[str], package: _Package, remembered: StatCache) -> tuple[list[str], list[str]]:
    """The files that modules of ours reach, by their names, and the foreign packages that these import."""
    files: set[str] = set()
    packages: set[str] = set()
    names_seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        file = waiting.pop()
        if file in files:
            continue
        files.add(file)
        folders = file.split("/")[:-1]
        parent = ".".join(folders if folders[:1] == [_RUNTIME] else ["builder", *folders])
        imported = {
            _absolute(name, parent) for name in remembered.get("imports", package.files[file], scan_own)["modules"]
        }
        if file.endswith("/__init__.py") and imported & _FINDERS:
            waiting += [name for name in package.files if name.startswith(file.removesuffix("__init__.py"))]
        for name in imported - names_seen:
            parts = name.split(".")
            if parts[0] not in ("builder", _RUNTIME):
                packages.add(parts[0])
                continue
            found = _own_name(parts[1:] if parts[0] == "builder" else parts, package.files)
            if found is not None and found not in _GUARDS:
                waiting.append(found)
        names_seen |= imported
    outside = packages - sys.stdlib_module_names - _HARMLESS - {"__future__"}
    return sorted(files), sorted(outside)


def _own_name(parts: list[str], package_files: Mapping[str, Path]) -> str | None:
    """The file of ours behind a dotted name: of a module, or of the module that defines it."""
    for length in range(len(parts), 0, -1):
        path = "/".join(parts[:length])
        for name in (f"{path}.py", f"{path}/__init__.py"):
            if name in package_files:
                return name
    return None


def package_versions(names: Sequence[str]) -> dict[str, str]:
    """The version of the distribution behind each import name, without importing it; "missing" where there is none."""
    found: dict[str, str] = {}
    for name in names:
        for distribution in (_DISTRIBUTIONS.get(name, name), *_WITH.get(name, ())):
            found[distribution] = installed_version(distribution)
    return found
