"""Composes a command line, or takes the composition of the last time when no YAML file has changed since.

Hydra takes longer to import than everything else that a cached build does. What is kept is the composed configuration;
it is validated anew, and every mistake is found by composing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder import noop
from builder.artifacts.stages import BuildRequest
from builder.cli.remember import UndecidableError, configuration_inputs, remembered_files
from builder.store.code import own_path, package_stats
from builder.store.inputs import named_in
from builder.util.redact import redacted_values

_PACKAGES = ("config", "spec")
"""The packages of builder that decide how a command line is composed."""


def compose_once(overrides: Sequence[str], *, started: int) -> BuildRequest:
    """Return the request of a command line; `started` is `time.time_ns()` before anything was read."""
    path = Path(noop.manifest_path(overrides)).parents[1] / "composed" / Path(noop.manifest_path(overrides)).name
    request = _remembered(path, overrides)
    if request is not None:
        return request
    from builder.config.compose import compose

    request = compose(overrides)
    _remember(path, overrides, request, started)
    return request


def _remembered(path: Path, overrides: Sequence[str]) -> BuildRequest | None:
    try:
        manifest: Any = noop.read_manifest(str(path))
        if manifest["schema"] != noop.SCHEMA or manifest["identity"] != noop.identity_digest(overrides):
            return None
        if not all(Path(file).exists() for file in manifest["present"]):
            return None
        if noop.is_current(manifest, paranoid=False) is None:
            return None
        kept = manifest["request"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    from builder.spec.named_data import spec_of

    try:
        spec = spec_of(kept["config"])
    except ValueError:  # pydantic's ValidationError: composing tells what is wrong
        return None
    return BuildRequest(
        recipe=kept["recipe"],
        variant=kept["variant"],
        spec=spec,
        overrides=tuple(overrides),
        config=kept["config"],
        origins=kept["origins"],
    )


def _remember(path: Path, overrides: Sequence[str], request: BuildRequest, started: int) -> None:
    try:
        remembered = remembered_files()
        inputs = configuration_inputs(request, overrides, remembered)
        own = {own_path(name) for name in package_stats() if name.partition("/")[0] in _PACKAGES}
        entries = [remembered.entry(file) for file in sorted({*map(str, inputs.files), *own})]
        remembered.save()
        if inputs.variables or any(max(entry[1][:2]) >= started for entry in entries):
            return  # values of the environment may be secrets: they are in no file, and whoever composes knows them
    except (UndecidableError, OSError):
        return
    names = {
        named.text for named in named_in(request.spec, tuple(type(request.spec).model_fields)) if not named.is_code
    }
    kept = {
        "recipe": request.recipe,
        "variant": request.variant,
        "config": dict(request.config),
        "origins": dict(request.origins),
    }
    if json.loads(json.dumps(kept)) != kept or redacted_values(kept) != kept:
        return  # YAML knows more types of keys than JSON; what holds a password is not written
    manifest = {
        "schema": noop.SCHEMA,
        "identity": noop.identity_digest(overrides),
        "environment": {},
        "missing": sorted(map(str, inputs.missing)),
        "present": sorted(os.path.abspath(name) for name in names),  # noqa: PTH100 - keeps `..` as it is resolved
        "packages": [],
        "folders": [[str(folder), noop.names_in(str(folder))] for folder in sorted(inputs.folders)],
        "files": entries,
        "fallback": None,
        "request": kept,
    }
    noop.write_manifest(str(path), manifest)
