"""Leaves behind, after a build, the list of all that it depended on, with which the fast path answers the next one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder import noop
from builder.artifacts.stages import BuildRequest
from builder.config.folders import open_library
from builder.store.code import PACKAGE, own_path, package_stats, runtime_package
from builder.store.digests import StatCache, files_below
from builder.store.inputs import Named, named_in, user_codes
from builder.util.paths import lock_of
from builder.util.reading import MOST_OF_RECIPE, read_regular

_ENVIRONMENT = re.compile(r"\$\{oc\.env:([^},]*)")
"""OmegaConf's way to read a variable of the environment."""
_NAME = re.compile(r"\s*['\"]?([A-Za-z_][A-Za-z0-9_]*)['\"]?\s*")


class UndecidableError(Exception):
    """The fast path could not tell whether something changed, so it must not answer."""


def remember(
    arguments: Sequence[str],
    request: BuildRequest,
    artifact: Path,
    *,
    started: int,
    fallback: Mapping[str, object] | None,
    summary: str,
) -> None:
    """Write the manifest of a build that is current; `started` is `time.time_ns()` before anything was read.

    Nothing is written where an input changed since, or lies in the future: then nobody knows which of its states was
    built. What was written before for the same command line is no longer read either.
    """
    if not noop.is_build(arguments):
        return
    path = noop.manifest_path(arguments)
    try:
        manifest = _manifest(arguments, request, artifact, started)
    except (UndecidableError, OSError):
        Path(path).unlink(missing_ok=True)
        return
    noop.write_manifest(path, {**manifest, "fallback": fallback, "said": summary})


@dataclass(frozen=True, kw_only=True)
class ConfigurationInputs:
    """What a composition depends on."""

    files: frozenset[Path]
    folders: frozenset[Path]
    """Folders whose list of names counts."""
    missing: frozenset[Path]
    """What would be read if it existed."""
    variables: tuple[str, ...]
    """Environment variables that the configuration reads."""


def configuration_inputs(
    request: BuildRequest, arguments: Sequence[str], remembered: StatCache | None = None
) -> ConfigurationInputs:
    """All YAML files that a recipe could be made of, and where else things are sought.

    Raises UndecidableError where a recipe computes the name of an environment variable.
    """
    library = open_library()
    folders = {*library.recipes, *library.options}
    folders |= {child for folder in library.options for child in folder.iterdir() if child.is_dir()}
    yamls = frozenset(file for folder in folders for file in folder.glob("*.yaml"))
    missing = {place for name in ("recipes", "conf") if not (place := Path.cwd() / name).exists()}
    for named in _named_files(request):
        missing |= set(_sought_before(named.text, request.origins.get(named.key, "")))
    return ConfigurationInputs(
        files=yamls,
        folders=frozenset(folders),
        missing=frozenset(missing),
        variables=tuple(sorted(set(_variables(yamls, arguments, remembered or remembered_files())))),
    )


def _named_files(request: BuildRequest) -> Iterator[Named]:
    for named in named_in(request.spec, tuple(type(request.spec).model_fields)):
        if not named.is_code:
            yield named


@dataclass(frozen=True, kw_only=True)
class BuildInputs:
    """Everything on disk that decides what a build gives."""

    configuration: ConfigurationInputs
    files: frozenset[Path]
    folders: frozenset[Path]
    """Folders whose list of names counts."""
    missing: frozenset[Path]
    """What would be read if it existed."""


def remembered_files() -> StatCache:
    """What builds have found out about files so far."""
    return StatCache(Path(noop.cache_folder()) / "remembered.json")


def build_inputs(request: BuildRequest, arguments: Sequence[str], remembered: StatCache | None = None) -> BuildInputs:
    """What a build reads besides builder itself: YAML files, named files and folders, user code with what it imports.

    Raises UndecidableError as `configuration_inputs`.
    """
    remembered = remembered or remembered_files()
    configuration = configuration_inputs(request, arguments, remembered)
    files, folders = set(configuration.files), set(configuration.folders)
    missing = set(configuration.missing)
    for named in _named_files(request):
        place = Path(named.text).absolute()
        if place.is_dir():
            folders |= {place, *(folder for folder in place.rglob("*") if folder.is_dir())}
        files |= {file for _, file in files_below(place)}
    for code in user_codes(request.spec, remembered):
        files |= set(code.files)
        missing |= set(code.missing)
    return BuildInputs(
        configuration=configuration,
        files=frozenset(files),
        folders=frozenset(folders),
        missing=frozenset(missing),
    )


def _manifest(arguments: Sequence[str], request: BuildRequest, artifact: Path, started: int) -> dict[str, object]:
    remembered = remembered_files()
    found = build_inputs(request, arguments, remembered)
    absent = {lock_of(artifact.parents[2], request.recipe, request.variant), *found.missing}
    own = {own_path(name) for name in package_stats()}
    entries = [remembered.entry(file) for file in sorted({*map(str, found.files), *own})]
    remembered.save()
    if any(max(entry[1][:2]) >= started for entry in entries):
        raise UndecidableError
    outputs = [file for _, file in files_below(artifact.parent.absolute())]
    published = {artifact.parent, *(folder for folder in artifact.parent.rglob("*") if folder.is_dir())}
    listed = {*map(str, found.folders), *map(str, published), *(file.rpartition("/")[0] for file in own)}
    installed = [Path(entry) for entry in sys.path[1:] if entry]
    return {
        "schema": noop.SCHEMA,
        "identity": noop.identity_digest(arguments),
        "environment": {name: noop.variable_digest(name) for name in found.configuration.variables},
        "missing": sorted(str(path.absolute()) for path in {*absent, *(f for f in installed if not f.exists())}),
        "packages": [[str(f), f.stat().st_mtime_ns] for f in installed if f.is_dir() and f not in _ours()],
        "folders": [[folder, noop.names_in(folder)] for folder in sorted(listed)],
        "files": [*entries, *(noop.file_entry(str(file)) for file in outputs)],
        "artifact": str(artifact.absolute()),
    }


def _sought_before(file: str, origin: str) -> Iterator[Path]:
    """Where a file would have been found before the working directory: beside the YAML that names it."""
    yaml = re.sub(r":\d+:\d+$", "", origin)
    beside = Path(yaml).absolute().parent / file
    if yaml.endswith(".yaml") and not Path(file).is_absolute() and not beside.exists():
        yield beside


def _variables(yamls: frozenset[Path], arguments: Sequence[str], remembered: StatCache) -> Iterator[str]:
    """The environment variables that any recipe or option reads; raises UndecidableError where a name is computed."""
    texts = [text for file in sorted(map(str, yamls)) for text in remembered.get("variables", Path(file), _read_by)]
    for name in (*texts, *(name for argument in arguments for name in _ENVIRONMENT.findall(argument))):
        plain = _NAME.fullmatch(name)
        if plain is None:
            raise UndecidableError
        yield plain[1]


def _read_by(file: Path) -> list[str]:
    """How a file names the variables that it reads."""
    return _ENVIRONMENT.findall(read_regular(file, most=MOST_OF_RECIPE).decode("utf-8", "replace"))


def _ours() -> tuple[Path, ...]:
    """Folders on Python's path that hold no installed packages: their files are in the manifest one by one."""
    folders = (Path.cwd(), PACKAGE.parent, runtime_package().parent)
    return tuple(folder for folder in folders if "site-packages" not in folder.parts)
