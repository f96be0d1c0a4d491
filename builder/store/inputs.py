"""Everything that can change the result of a stage, by readable labels: what its key is made of."""

from __future__ import annotations

import platform
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel

from builder import __version__
from builder.errors import SourceError
from builder.spec import BuildSpec
from builder.spec.base import IsFile, IsImportPath
from builder.spec.check_kinds import check_kind
from builder.spec.compression_kinds import COMPRESSIONS, compression_kind
from builder.spec.source_kinds import kind_of
from builder.spec.substitution_kinds import substitution_named
from builder.spec.target import BACKENDS
from builder.store.code import Code, own_code, package_versions, user_code
from builder.store.digests import StatCache

STAGE_INPUTS: Mapping[str, tuple[str, ...]] = {
    "load": ("source", "input", "seed"),
    "prepare": ("input", "output", "classifier", "detection", "substitutions", "module_compression", "seed"),
    "capture": ("capture",),
    "convert": ("input", "output", "classifier", "detection", "precision", "target", "format"),
    "compress": ("program_compression", "target", "format", "input", "seed"),
    "seal": ("metadata", "format", "detection", "functions"),
    "verify": (
        "checks",
        "input",
        "output",
        "classifier",
        "detection",
        "substitutions",
        "capture",
        "precision",
        "compression",
        "target",
        "format",
        "metadata",
        "seed",
        "functions",
    ),
    "measure": (
        "measured_checks",
        "program_compression",
        "input",
        "output",
        "classifier",
        "detection",
        "target",
        "format",
        "seed",
    ),
    "choose": (
        "input",
        "output",
        "classifier",
        "capture",
        "precision",
        "compression",
        "target",
        "format",
        "checks",
        "metadata",
        "seed",
    ),
    "sensitivity": (),
}
"""The part of the spec that each stage reads. A section that is named nowhere here is in the key of every stage."""

PARTS: Mapping[str, str] = {
    "module_compression": "compression",
    "program_compression": "compression",
    "measured_checks": "checks",
}
"""What is a part of a section: the section it belongs to."""

_READ_BY = {"artifact_inputs": "input", "format_kind": "format"}
"""Properties of a spec that read a section of another name."""

_NO_STAGE = ("schema_version", "tracking", "data", "lint")
"""What no stage reads; named data stands in the places that refer to it (`builder.spec.named_data`)."""

_ARCHIVES = ("model/capture/archive.py", "backends/{backend}/archive.py")
_CONVERSION = ("backends/{backend}/convert.py", "backends/{backend}/compress.py", "backends/{backend}/seal.py")

ROOTS: Mapping[str, tuple[str, ...]] = {
    "load": ("stages/load.py", "data/examples.py"),
    "prepare": ("stages/prepare.py",),
    "capture": ("stages/capture.py", "model/capture/archive.py"),
    "convert": ("backends/{backend}/convert.py", *_ARCHIVES),
    "compress": ("backends/{backend}/compress.py", *_ARCHIVES),
    "seal": (
        "backends/{backend}/seal.py",
        "backends/{backend}/description.py",
        "analysis/neural_engine/inspect.py",
    ),
    "verify": ("stages/verify.py",),
    "measure": ("stages/measure.py", "checks/steps.py"),
    "choose": (
        "auto/choose.py",
        "stages/capture.py",
        *_CONVERSION,
        "stages/verify.py",
        *_ARCHIVES,
    ),
    "sensitivity": ("auto/sensitivity.py",),
}
"""The modules that each stage starts at, relative to the package; what they import is in the stage's key too.

`{backend}` stands for the package that makes the recipe's format.
"""

CALLS_APPLES_FRAMEWORKS = ("seal", "verify", "choose")
"""The stages that call Core ML itself on a Mac, whose answers may change with the system's version: the lint's compute
plan, and checks by the engine `coreml`."""

VERSIONS: Mapping[str, int] = dict.fromkeys(STAGE_INPUTS, 1)
"""The version of each stage's own code: raised when it gives another result for the same inputs."""


def sections(stage: str) -> tuple[str, ...]:
    """The sections of the spec that are in the key of a stage."""
    placed = {name for names in STAGE_INPUTS.values() for name in names}.union(_NO_STAGE)
    return (*STAGE_INPUTS[stage], *(name for name in BuildSpec.model_fields if name not in placed))


@dataclass(frozen=True, kw_only=True)
class Named:
    """A text of the spec that names a file or user code, with the dotted key under which it stands."""

    key: str
    text: str
    is_code: bool


def stage_inputs(stage: str, spec: BuildSpec, remembered: StatCache) -> dict[str, object]:
    """Return all inputs of a stage except the results of stages before it.

    A file counts by its content, not by its name; user code by the content of all local files that it reaches.
    """
    inputs: dict[str, object] = {"version": VERSIONS[stage], "builder": __version__}
    own = own_code(_roots(stage, spec), remembered)
    inputs["builder's code"] = own.digest
    inputs |= {f"tool {name}": version for name, version in package_versions(own.packages).items()}
    inputs |= {"python": ".".join(map(str, sys.version_info[:2])), "processor": platform.machine()}
    system = f"{sys.platform} {platform.mac_ver()[0]}".strip()
    inputs["system"] = system if stage in CALLS_APPLES_FRAMEWORKS else sys.platform
    named = {entry.key: entry for entry in named_in(spec, sections(stage))}
    for key, value in _leaves({PARTS.get(name, name): _dumped(spec, name) for name in sections(stage)}, ""):
        entry = named.get(key)
        if entry is None or entry.is_code:
            inputs[f"spec {key}"] = value
    for entry in named.values():
        inputs |= _contents(entry, remembered)
    return inputs


def _roots(stage: str, spec: BuildSpec) -> tuple[str, ...]:
    """The modules that a stage starts at; of load and of backends, those of the recipe's own source and format."""
    named = []
    if stage == "load":
        named.append(kind_of(spec.source).load)
    if "checks" in sections(stage):
        named += [check_kind(check).run for check in spec.checks.values()]
    if "substitutions" in sections(stage):
        shipped = [substitution_named(given.kind) for given in spec.substitutions.values()]
        named += [kind.rewrite for kind in shipped if kind is not None]
    if "module_compression" in sections(stage):
        named += [str(compression_kind(step).method) for step in spec.module_compression.values()]
    if "program_compression" in sections(stage):
        kinds = [compression_kind(step) for step in spec.program_compression.values()]
        named += [kind.passes for kind in kinds if kind.passes is not None]
    if "compression" in sections(stage) and spec.is_open:  # it may take any
        named += [kind.passes for kind in COMPRESSIONS if kind.passes is not None]
    own = [path.partition(":")[0].removeprefix("builder.").replace(".", "/") + ".py" for path in named]
    return (*(module.format(backend=BACKENDS[spec.format]) for module in ROOTS[stage]), *dict.fromkeys(own))


def _dumped(spec: BuildSpec, name: str) -> Any:
    section = PARTS.get(name, name)
    dumped = spec.model_dump(mode="json", by_alias=True, include={section})[section]
    return dumped if section == name else {entry: dumped[entry] for entry in getattr(spec, name)}


def _contents(entry: Named, remembered: StatCache) -> dict[str, object]:
    """What a file or a piece of user code adds to the inputs."""
    if not entry.is_code:
        path = Path(entry.text)
        if path.exists() and not path.is_file() and not path.is_dir():
            raise SourceError(f"{path} is not a regular file", code="B0301", key=entry.key)  # it may never end
        return {f"file {entry.key}": remembered.digest(path) if path.exists() else "missing"}
    code = user_code(entry.text.partition(":")[0], remembered)
    found: dict[str, object] = {f"code {entry.key} {_shown(file)}": remembered.digest(file) for file in code.files}
    return found | {f"tool {name}": version for name, version in package_versions(code.packages).items()}


def _shown(path: Path) -> str:
    """A file as it is the same on every machine: relative to the working directory where it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


class SpecView:
    """The part of a spec that one stage reads; anything else of it is refused, since it is not in the stage's key."""

    def __init__(self, stage: str, spec: BuildSpec) -> None:
        self._stage = stage
        self._spec = spec

    def __getattr__(self, name: str) -> Any:
        """Return a section that is in the stage's key."""
        if _READ_BY.get(name, name) not in sections(self._stage):
            where = "name it in STAGE_INPUTS of builder/store/inputs.py, so that it is in the stage's key"
            raise AttributeError(f"the {self._stage} stage reads `{name}` of the spec: {where}")
        return getattr(self._spec, name)


def spec_view(stage: str, spec: BuildSpec) -> BuildSpec:
    """Return `spec` as `stage` may read it."""
    return cast(BuildSpec, SpecView(stage, spec))


def user_codes(spec: BuildSpec, remembered: StatCache) -> list[Code]:
    """All user code that the spec names."""
    entries = [entry for entry in named_in(spec, tuple(type(spec).model_fields)) if entry.is_code]
    return [user_code(entry.text.partition(":")[0], remembered) for entry in entries]


def named_in(spec: BuildSpec, names: tuple[str, ...]) -> Iterator[Named]:
    """Yield every text in these sections of the spec whose type says that it names a file or user code."""
    fields = type(spec).model_fields
    for name in names:
        section = PARTS.get(name, name)
        field = fields[section]
        yield from _named(getattr(spec, name), field.annotation, tuple(field.metadata), section)


def _named(value: object, annotation: object, marks: tuple[object, ...], key: str) -> Iterator[Named]:
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            inner = f"{key}.{field.alias or name}"
            yield from _named(getattr(value, name), field.annotation, tuple(field.metadata), inner)
        return
    if get_origin(annotation) is Annotated:
        bare, *more = get_args(annotation)
        yield from _named(value, bare, (*marks, *more), key)
    elif get_origin(annotation) in (Union, types.UnionType):
        members = get_args(annotation)
        if not (isinstance(value, str) and any(value in get_args(m) for m in members if get_origin(m) is Literal)):
            for member in members:
                yield from _named(value, member, marks, key)
    elif isinstance(value, Mapping) and get_origin(annotation) is dict:
        for name, child in value.items():
            yield from _named(child, get_args(annotation)[1], (), f"{key}.{name}")
    elif isinstance(value, list | tuple) and get_origin(annotation) in (list, tuple):
        for index, child in enumerate(value):
            yield from _named(child, get_args(annotation)[0], (), f"{key}.{index}")
    elif isinstance(value, str):
        for kind, is_code in ((IsFile, False), (IsImportPath, True)):
            if any(isinstance(mark, kind) for mark in marks):
                yield Named(key=key, text=value, is_code=is_code)


def _leaves(value: object, key: str) -> Iterator[tuple[str, object]]:
    """Every leaf of nested mappings and lists with its dotted key; what is empty is a leaf."""
    children = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    found = False
    for name, child in children:
        found = True
        yield from _leaves(child, f"{key}.{name}" if key else str(name))
    if not found:
        yield key, value
