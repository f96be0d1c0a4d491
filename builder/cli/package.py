"""`python -m builder package recipe=…` or an artifact: a Swift package that an app adds as it is."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cli.arguments import Parser, model_file, outputs_folder, verbosity
from builder.errors import ConfigurationError
from builder.util.locations import shown
from builder.util.reading import require_contained

if TYPE_CHECKING:
    from builder.spec import BuildSpec
    from builder.swift.interface import Package
    from builder.util.reading import JsonObject

DESCRIPTION = """Write a Swift package: the artifact as a resource, one type for its task, and tests with golden
predictions that builder's runtime computed. A recipe is built first; an artifact, or the folder of a build or release,
is taken as it is. With --both the recipe is built for Core ML and for Core AI, and the app takes what its system has.

  python -m builder package recipe=digits_mobilenet
  python -m builder package recipe=digits_mobilenet --both --output ../MyApp/Digits
  python -m builder package outputs/digits_mobilenet/default/digits_mobilenet.mlpackage

A folder that `package` did not write, or in which something was changed since, is left alone. The path of the package
is the last line on stdout.
"""
_CORE_AI = "format=aimodel"
_MOST = 2
"""Artifacts of one package."""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("package", DESCRIPTION, usage="package recipe=NAME [key=value …] | ARTIFACT | FOLDER [--both]")
    made.add_argument("given", nargs="*", metavar="key=value | MODEL", help="the recipe, or an artifact or its folder")
    made.add_argument("--both", action="store_true", help="also the other format of the recipe, chosen at run time")
    made.add_argument("--output", metavar="FOLDER", help="the package (default: outputs/packages/NAME)")
    made.add_argument("--outputs", default="outputs", metavar="FOLDER", help="where builds go (default: outputs)")
    return made


def run(arguments: Sequence[str]) -> int:
    """Write the package of what the command line names; returns the exit code."""
    given = parser().read(arguments)
    outputs = outputs_folder(given)
    if not given.given:
        raise ConfigurationError(
            "package needs a recipe or an artifact", code="B0226", hint="python -m builder package recipe=NAME"
        )
    from builder.swift.write import require_own, write_package

    if given.output is not None:
        require_own(Path(given.output))
    if any("=" in word and not Path(word).exists() for word in given.given):
        parts = _of_recipe(given.given, outputs, both=given.both, verbosity=verbosity(given))
    else:
        parts = _of_files(given.given, both=given.both)
    destination = outputs / "packages" / parts.package.module if given.output is None else Path(given.output)
    written = write_package(parts.package, parts.spec, destination, boxes=parts.boxes)
    if verbosity(given) >= 0:
        print(f"{parts.package.type}, and golden tests; nothing was compiled here", file=sys.stderr)
    print(shown(written))
    return 0


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What a package is made of."""

    package: Package
    spec: BuildSpec | None
    boxes: float | None
    """The share of boxes that the build's check wanted."""


def _of_recipe(overrides: Sequence[str], outputs: Path, *, both: bool, verbosity: int) -> _Parts:
    """Build the recipe, with `both` once for each framework."""
    from builder.backends import backend_of_file
    from builder.cli.run_build import build_and_report
    from builder.config.compose import compose
    from builder.spec.target import BACKENDS
    from builder.swift.describe import package_of_file, with_promises

    requests = [compose(overrides)]
    if both:
        if BACKENDS[requests[0].spec.format] == "coreai":
            raise ConfigurationError(
                "--both adds the Core AI format to a recipe for Core ML, and this one is for Core AI",
                code="B0229",
                hint="package the Core ML recipe, or leave --both out",
            )
        requests.append(compose([*overrides, _CORE_AI]))
    parts = []
    for request in requests:
        record = build_and_report(request, outputs=outputs, verbosity=verbosity)
        path, spec = record.artifact.path, record.spec
        described = backend_of_file(path).describe(path)
        package = package_of_file(path, record.artifact.digest, described, generation=spec.system.generation)
        package = with_promises(package, spec)
        parts.append(_Parts(package=package, spec=spec, boxes=_boxes(check.limits for check in record.checks)))
    return _joined(parts)


def _of_files(names: Sequence[str], *, both: bool) -> _Parts:
    """The package of one artifact, or of one for each framework."""
    from builder.backends import backend_of_file
    from builder.store.digests import artifact_digest
    from builder.swift.describe import package_of_file, with_promises

    if both:
        raise ConfigurationError(
            "--both builds a recipe twice; of artifacts, name the two files", code="B0229", hint="leave --both out"
        )
    if len(names) > _MOST:
        raise ConfigurationError("a package holds one artifact, or one for each framework", code="B0225")
    parts = []
    for name in names:
        path = _artifact(model_file(name))
        document = _record_of(path)
        spec = _spec(document)
        described = backend_of_file(path).describe(path)
        generation = None if spec is None else spec.system.generation
        package = package_of_file(path, artifact_digest(path), described, generation=generation)
        boxes = _boxes(check.get("limits", {}) for check in document.get("checks", ()))
        parts.append(_Parts(package=with_promises(package, spec), spec=spec, boxes=boxes))
    return _joined(sorted(parts, key=lambda part: part.package.frameworks == ("coreai",)))


def _joined(parts: Sequence[_Parts]) -> _Parts:
    """One package of both formats, that of Core ML first."""
    from builder.swift.describe import joined

    if len(parts) == 1:
        return parts[0]
    one, other = (part.package for part in parts)
    if one.frameworks == other.frameworks:
        raise ConfigurationError("both artifacts are for the same framework", code="B0229", hint="name one of them")
    return replace(parts[0], package=joined(one, other))


def _boxes(limits: Iterable[Mapping[str, Mapping[str, float]]]) -> float | None:
    found = (each.get("boxes_matched", {}).get("min") for each in limits)
    return next((least for least in found if isinstance(least, int | float)), None)


def _artifact(path: Path) -> Path:
    """The artifact itself, or the one in the folder of a build or of a release, whose digests are checked first."""
    from builder.release.digests import MANIFEST
    from builder.release.verify import verify_release
    from builder.spec.target import BACKENDS

    if path.suffix.removeprefix(".") in BACKENDS:
        return path
    if path.is_dir() and (path / MANIFEST).is_file():
        return verify_release(path, public_key=None).artifact
    inside = sorted(path.iterdir()) if path.is_dir() else []
    found = [each for each in inside if each.suffix.removeprefix(".") in BACKENDS]
    if len(found) != 1:
        raise ConfigurationError(
            f"{path} is neither an artifact nor a folder with one",
            code="B0226",
            hint="give the path of a .mlpackage, .mlmodel or .aimodel, or the folder of a build or release",
        )
    require_contained(found[0])
    return found[0]


def _record_of(path: Path) -> JsonObject:
    """The record beside an artifact; empty where there is none of this very artifact."""
    from builder.reports.build_json import read_build_json

    try:
        document = read_build_json(path.parent)
    except (FileNotFoundError, ValueError):
        return {}
    return document if Path(document["artifact"]["path"]).name == path.name else {}


def _spec(document: JsonObject) -> BuildSpec | None:
    """The recipe of a record; None where there is none, or one of an older builder."""
    from builder.spec.named_data import spec_of

    try:
        return spec_of(document["config"]) if document else None
    except ValueError:
        return None
