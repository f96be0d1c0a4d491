"""A resolved recipe that needs nothing around it: plain values, and files by places that a release has as well."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml

from builder.artifacts.stages import BuildRequest
from builder.config.files import named_files
from builder.errors import VerificationError
from builder.release.digests import file_sha256
from builder.reports.plain import leaves
from builder.spec import BuildSpec
from builder.spec.source_kinds import kind_named
from builder.store.digests import digest_of
from builder.util.reading import is_inner_path, read_regular
from builder.util.redact import without_environment

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

FILE_NAME = "recipe.yaml"
PROJECT = "project"
"""The folder of a release with the project's files that the build reads, laid out as in the project."""
INPUTS = "inputs"
"""The folder of a release with what a recipe names outside its project, and with downloaded weights."""

_HEAD = """\
# The resolved recipe of a release. Every setting is written out; files lie in `project/` and `inputs/` beside this one.
# `python -m builder verify FOLDER --rebuild` builds it again.
"""
_MOST = 1 << 20
"""Bytes of a resolved recipe; as of any recipe."""
_NOT_OF_THE_ARTIFACT = ("tracking",)


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """What `recipe.yaml` of a release holds."""

    recipe: str
    variant: str
    overrides: tuple[str, ...]
    spec: JsonObject
    """Every setting; the paths of files are relative to the release's folder."""
    working_directory: str
    """Where the build ran, relative to `project/`."""
    python_path: tuple[str, ...]
    """Where Python looked for user code beyond the working directory, relative to `project/`."""


def plain_spec(spec: BuildSpec) -> dict[str, Any]:
    """Every setting of `spec` as plain values, without what says nothing about the artifact."""
    values: dict[str, object] = spec.model_dump(mode="json", by_alias=True)
    return values | {"tracking": {"kind": "none"}}


def config_digest(spec: BuildSpec) -> str:
    """`sha256:` over the settings; files count by their name without folders, since their content has a digest."""
    return digest_of(_placeless(spec, plain_spec(spec)))


def chosen_settings(spec: BuildSpec) -> dict[str, object]:
    """By dotted key, the settings that are not the defaults, so that a lock can say which of them became another."""
    chosen = _placeless(spec, spec.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    return dict(leaves(chosen))


def _placeless(spec: BuildSpec, values: dict[str, object]) -> dict[str, object]:
    """The values with files by their names alone, and without what says nothing about the artifact."""
    for key, text in named_files(spec):
        _set(values, key, Path(text).name)
    return {name: value for name, value in values.items() if name not in _NOT_OF_THE_ARTIFACT}


def files_named(spec: BuildSpec) -> dict[str, list[Path]]:
    """By dotted key: the file that the recipe names there, or all files of the folder."""
    found = {}
    for key, text in named_files(spec):
        path = Path(text).resolve()
        inside = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        found[".".join(key)] = inside
    return found


def name_in_lock(file: Path, root: Path, key: str = "") -> str:
    """How a lock names a file: by its place in the project, or by the setting that names it, wherever it lies."""
    if file.is_relative_to(root):
        return file.relative_to(root).as_posix()
    return f"({key}) {file.name}" if key else str(file)


def place_in_release(path: Path, root: Path, key: str) -> str:
    """Where a release keeps a file or folder that a recipe names under `key`."""
    if path.is_relative_to(root):
        return f"{PROJECT}/{path.relative_to(root).as_posix()}"
    return f"{INPUTS}/{key}/{path.name}"


def resolve(
    request: BuildRequest, root: Path, *, weights: Path | None, folder: Path, python_path: tuple[str, ...]
) -> tuple[Resolved, dict[str, Path]]:
    """Return the resolved recipe of a release, and by place in the release what it needs (files and folders).

    `weights` is the downloaded file that the build read, if any: the release brings it along, so that a rebuild needs
    no network. `folder` is the working directory of the build.
    """
    spec = request.spec
    values = plain_spec(spec)
    needed: dict[str, Path] = {}
    for key, text in named_files(spec):
        path = Path(text).resolve()
        place = place_in_release(path, root, ".".join(key))
        needed[place] = path
        _set(values, key, place)
    if weights is not None and "file" in values["source"]:
        place = f"{INPUTS}/source.file/{weights.name}"
        needed[place] = weights
        values["source"] |= {"file": place, "sha256": file_sha256(weights)}
    resolved = Resolved(
        recipe=request.recipe,
        variant=request.variant,
        overrides=request.overrides,
        spec=values,
        working_directory=_relative(folder.resolve(), root),
        python_path=python_path,
    )
    return resolved, needed


def python_path_inside(root: Path) -> tuple[str, ...]:
    """The folders of `PYTHONPATH` that lie in the project, relative to its root."""
    entries = [Path(entry).resolve() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return tuple(_relative(entry, root) for entry in entries if entry.is_relative_to(root))


def write_resolved(resolved: Resolved, folder: Path) -> None:
    """Write `recipe.yaml`; raises VerificationError where a secret of the environment is among the settings."""
    values = {**vars(resolved), "overrides": list(resolved.overrides), "python_path": list(resolved.python_path)}
    text = yaml.safe_dump({"schema": 1, **values}, sort_keys=False, allow_unicode=True, width=110)
    if without_environment(text) != text:
        raise VerificationError(
            "a setting is a secret of the environment, which a release would give away",
            code="B0602",
            hint="read it in code of your own, where it is needed, in place of `${oc.env:…}` in the recipe",
        )
    (folder / FILE_NAME).write_text(_HEAD + text, encoding="utf-8")


def read_resolved(folder: Path) -> Resolved:
    """Read `recipe.yaml`; raises VerificationError when it is not one that this builder wrote."""
    try:
        values = yaml.safe_load(read_regular(folder / FILE_NAME, most=_MOST).decode("utf-8"))
        if values.pop("schema") != 1:
            raise VerificationError(f"{FILE_NAME} is of a schema that this builder does not read", code="B0608")
        values["overrides"], values["python_path"] = tuple(values["overrides"]), tuple(values["python_path"])
        resolved = Resolved(**values)
        kind_named(resolved.spec["source"]["kind"])
        for place in (resolved.working_directory, *resolved.python_path):
            if place != "." and not is_inner_path(place):
                raise ValueError(f"{place!r:.200} leads out of the release")
        return resolved
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise VerificationError(f"{folder / FILE_NAME} is not a resolved recipe: {error}", code="B0608") from error


def request_in(folder: Path, resolved: Resolved) -> dict[str, Any]:
    """The job of a build in `folder`, which has the files of a release: paths as the working directory sees them."""
    try:
        values = copy.deepcopy(dict(resolved.spec))
        spec = BuildSpec.model_validate(values)
    except (ValueError, TypeError, RecursionError) as error:
        raise VerificationError(f"{FILE_NAME} is not a resolved recipe: {error}", code="B0608") from error
    for key, text in named_files(spec):
        place = folder / PurePosixPath(text)
        if ".." in PurePosixPath(text).parts or PurePosixPath(text).is_absolute():
            raise VerificationError(f"{FILE_NAME} names a file outside of the release: {text}", code="B0608")
        _set(values, key, str(place))
    return {
        "recipe": resolved.recipe,
        "variant": resolved.variant,
        "overrides": list(resolved.overrides),
        "spec": values,
    }


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else "."


def _set(values: Any, key: tuple[str, ...], value: str) -> None:
    for part in key[:-1]:
        values = values[int(part)] if isinstance(values, list) else values[part]
    values[int(key[-1]) if isinstance(values, list) else key[-1]] = value
