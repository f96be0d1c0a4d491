"""OmegaConf's `${…}` resolved and `???` found, each failure with its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers.oc import create

from builder.config.documents import Path
from builder.config.interpolation_size import MOST_LOOKUPS, lookups
from builder.config.layers import MISSING, Tree, leaves
from builder.errors import Diagnostic
from builder.util.redact import hide_environment

_DOCUMENTS = "oc.create"


def resolve(tree: Tree) -> tuple[dict[str, Any], list[Diagnostic]]:
    """Return the plain values of `tree` with interpolations resolved, and what could not be."""
    findings = []
    interpolated: list[Path] = []
    for path, value in leaves(tree.data):
        if value == MISSING:
            message = "must be given: the recipe leaves it open (`???`)"
            findings.append(_finding(tree, path, message, f"write it in a recipe, or `{'.'.join(path)}=…`"))
        elif isinstance(value, str) and "${" in value:
            interpolated.append(path)
    if not interpolated:
        return _copy(tree.data), findings
    if lookups({path: str(tree.get(path)[0]) for path in interpolated}) is None:
        message = f"cannot be resolved: interpolations of interpolations need more than {MOST_LOOKUPS:,} look-ups"
        return _copy(tree.data), [*findings, _finding(tree, interpolated[0], message)]
    sound: list[Path] = []
    for path in interpolated:
        try:
            OmegaConf.create({"value": tree.get(path)[0]})
            sound.append(path)
        except OmegaConfBaseException as error:
            findings.append(_finding(tree, path, f"cannot be read: {_first_line(error)}"))
    data = _copy(tree.data)
    if len(sound) < len(interpolated):
        return data, findings
    config = OmegaConf.create(data)
    with _without_documents():
        for path in sound:
            try:
                value = OmegaConf.select(config, ".".join(path), throw_on_resolution_failure=True)
                hide_environment(str(tree.get(path)[0]), value)
                _put(data, path, OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value)
            except OmegaConfBaseException as error:
                findings.append(_finding(tree, path, f"cannot be resolved: {_first_line(error)}"))
    return data, findings


@contextmanager
def _without_documents() -> Iterator[None]:
    """Leave out the resolver that reads YAML: aliases in it multiply, and a recipe is written out."""
    OmegaConf.clear_resolver(_DOCUMENTS)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver(_DOCUMENTS, create)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _finding(tree: Tree, path: Path, message: str, hint: str | None = None) -> Diagnostic:
    origin = tree.origin(path)
    return Diagnostic(code="B0216", path=path, message=message, span=origin.value if origin else None, hint=hint)


def _put(data: Any, path: Path, value: object) -> None:
    for key in path[:-1]:
        data = data[int(key)] if isinstance(data, list) else data[key]
    data[int(path[-1]) if isinstance(data, list) else path[-1]] = value


def _copy(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _copy(child) for key, child in value.items()}
    return [_copy(child) for child in value] if isinstance(value, list) else value
