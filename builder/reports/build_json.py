"""`build.json`: a BuildRecord as a contract that tools read, written atomically and read back checked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from builder.artifacts.checks import CheckReport
from builder.artifacts.costs import Costs
from builder.artifacts.record import BuildRecord
from builder.reports.plain import plain
from builder.spec import BuildSpec
from builder.spec.target import FORMATS
from builder.util.paths import write_atomically
from builder.util.reading import UnfitFileError, is_inner_path, read_json
from builder.util.text import visible_json

FILE_NAME = "build.json"
SCHEMA = 1
"""Raised when a key of `build.json` changes its meaning or goes away."""


class _Part(BaseModel):
    """Of a document that anyone may have written: what readers rely on; more may be there."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Artifact(_Part):
    path: str = Field(min_length=1)
    format: str = ""
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    bytes: int = 0


class _Stage(_Part):
    name: str
    key: str = ""
    cached: bool = False
    result: str = ""


class _Checked(_Part):
    name: str
    engine: str = ""
    verdict: str = ""
    passed: bool | None = None
    values: dict[str, Any] = {}
    limits: dict[str, dict[str, float | int | str | None]] = {}


class _Operator(_Part):
    name: str
    module: str = ""
    line: str = ""


class _Analysed(_Part):
    operators: list[_Operator]


class _Read(_Part):
    recipe: str
    variant: str
    artifact: _Artifact
    config: dict[str, Any]
    stages: list[_Stage] = []
    checks: list[_Checked] = []
    headroom: list[_Analysed] = []
    costs: list[_Analysed] = []
    devices: list[dict[str, Any]] = []
    published: list[dict[str, Any]] = []

    @field_validator("recipe", "variant")
    @classmethod
    def _stays_inside(cls, name: str) -> str:
        if not is_inner_path(name):
            raise ValueError("it leads to another folder")
        return name


def build_document(record: BuildRecord) -> dict[str, object]:
    """The document as plain JSON types: the contract's keys first, in its order."""
    return {
        "schema": SCHEMA,
        "recipe": record.request.recipe,
        "variant": record.variant,
        "status": record.status,
        "key": record.key,
        "artifact": {
            "path": str(record.artifact.path.absolute()),
            "format": record.artifact.format,
            "digest": record.artifact.digest,
            "bytes": record.artifact.size_bytes,
            "semantic_digest": record.artifact.semantic_digest,
        },
        "stages": plain(record.stages),
        "checks": [_check(check) for check in record.checks],
        "inputs": plain(record.inputs),
        "outputs": plain(record.outputs),
        "source": plain(record.source),
        "config": plain(record.request.config),
        "versions": dict(sorted(record.versions.items())),
        "functions": plain(record.functions),
        "target": {
            "name": record.request.spec.system.name,
            "coremltools": _coremltools_name(record.request.spec),
        },
        "seeded": record.seeded,
        "overrides": list(record.request.overrides),
        "origins": plain(record.request.origins),
        "chosen": plain(record.chosen),
        "capture": plain(record.capture),
        "substitutions": plain(record.substitutions),
        "lowerings": plain(record.lowerings),
        "conversion": plain(record.conversion),
        "compression": plain(record.compression),
        "skipped_layers": plain(record.skipped_layers),
        "lint": plain(record.lint),
        "headroom": plain(record.headroom),
        "costs": [_costs(each) for each in record.costs],
        "devices": plain(record.devices),
        "op_counts": dict(sorted(record.op_counts.items())),
        "source_bytes": record.source_bytes,
        "labels": None if record.labels is None else len(record.labels),
        "git": plain(record.git),
        "started": record.started,
        "seconds": record.seconds,
    }


def _costs(costs: Costs) -> dict[str, object]:
    """With what follows from the numbers, for tools."""
    operators = [{**plain(each), "intensity": each.intensity} for each in costs.operators]
    return {**plain(replace(costs, operators=())), "intensity": costs.intensity, "operators": operators}


def _check(check: CheckReport) -> dict[str, object]:
    """A check without its pictures and its worst input, which lie beside it, and its headroom, which has a key."""
    hidden = ("pictures", "worst_input", "headroom")
    kept = {name: plain(value) for name, value in vars(check).items() if name not in hidden}
    return {**kept, "verdict": check.verdict}


def render_build_json(record: BuildRecord) -> str:
    """The text of `build.json`."""
    return visible_json(json.dumps(build_document(record), indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def write_build_json(record: BuildRecord, folder: Path) -> Path:
    """Write `build.json` into `folder` and return its path."""
    path = folder / FILE_NAME
    write_atomically(path, render_build_json(record))
    return path


def read_build_json(path: Path) -> dict[str, Any]:
    """Read a `build.json` (or the one in a folder); the artifact is found although the folder was moved.

    Raises ValueError when it is not one, is damaged, or of a schema that this builder does not know; OSError where
    there is none that can be read.
    """
    if path.is_dir():
        path = path / FILE_NAME
    try:
        document = read_json(path)
    except UnfitFileError as error:
        raise ValueError(f"{path} {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a build.json: {error}") from error
    if not isinstance(document, dict) or "schema" not in document:
        raise ValueError(f"{path} is not a build.json: it has no `schema`")
    if document["schema"] != SCHEMA:
        raise ValueError(f"{path} has schema {document['schema']!r:.80}, and this builder reads schema {SCHEMA}")
    try:
        _Read.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path} is damaged at {where:.80}: {first['msg'].lower()}") from error
    beside = path.parent / Path(document["artifact"]["path"]).name
    if beside.exists():
        document["artifact"]["path"] = str(beside.absolute())
    return document


def _coremltools_name(spec: BuildSpec) -> str | None:
    """What coremltools calls the target; None of a format that it does not make."""
    return spec.target.coremltools_name if FORMATS[spec.format].is_of_coremltools else None
