"""The readable name of a variant: the overrides that change the artifact, safe as the name of a folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence

from builder.config.hydra.overrides import parse
from builder.errors import ConfigurationError, Diagnostic
from builder.spec import BuildSpec

DEFAULT = "default"
LONGEST = 100
"""Longer names are cut and end in a digest: file systems allow 255 bytes, and paths should stay readable."""

_NO_EFFECT = ("recipe", "checks", "tracking", "lint")
"""What comes after the artifact, or names the recipe itself. Checks count where `auto` is what passes them."""


def variant_of(arguments: Sequence[str], spec: BuildSpec, spec_of: Callable[[Sequence[str]], BuildSpec]) -> str:
    """Return `default`, or the sorted overrides that make `spec` differ from what the recipe says anyway."""
    kept = sorted(arguments)
    unnamed = [section for section in _NO_EFFECT if section != "checks" or not spec.is_open]
    for argument in sorted(arguments):
        key = _key(argument)
        if key.partition(".")[0] in unnamed:
            continue
        fewer = [other for other in kept if other != argument]
        try:
            if _of_the_artifact(spec_of(fewer)) == _of_the_artifact(spec):
                kept = fewer
        except ConfigurationError:
            continue  # the recipe needs this argument, so it stays in the name
    return variant_name([argument for argument in kept if _key(argument).partition(".")[0] not in unnamed])


def _of_the_artifact(spec: BuildSpec) -> BuildSpec:
    """`spec` with nothing that comes after the artifact; data that it is made with stands in its own section."""
    checks = spec.checks if spec.is_open else {}
    return spec.model_copy(update={"data": {}, "checks": checks, "tracking": None})


def _key(argument: str) -> str:
    return argument.partition("=")[0].lstrip("+~")


def variant_name(arguments: Sequence[str]) -> str:
    """Return a folder name for overrides, the same in whichever order they are given."""
    full = ",".join(sorted(_canonical(argument) for argument in arguments))
    if not full:
        return DEFAULT
    safe = re.sub(r"[^A-Za-z0-9._=,-]+", "-", full).strip("-.")
    if safe == full and len(safe) <= LONGEST:
        return safe
    return f"{safe[:LONGEST].rstrip('-.,=')}-{hashlib.sha256(full.encode()).hexdigest()[:8]}"


def _canonical(argument: str) -> str:
    override = parse(argument)
    if isinstance(override, Diagnostic) or override.is_sweep_override():
        return argument
    if override.is_delete():
        return f"without={override.key_or_group}"
    return f"{override.key_or_group}={override.get_value_element_as_str()}"
