"""The one way in which names of other packages are replaced: by a row of the table, within a block, one at a time."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import logging
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType
from typing import Any, TypeAlias

from builder.backends.coreml.patches.table import PATCHES, Patch
from builder.errors import UnfitEnvironmentError
from builder.util.install import install_command

LOCK = threading.RLock()
"""coremltools keeps the state of a conversion in module globals: conversions wait for each other."""

_LOG = logging.getLogger("builder.convert")
Make: TypeAlias = Callable[[Any], Any]
"""From what a target is to what stands in for it."""
_OPTIONAL = ("speed", "quiet", "report")


class ModuleOverlay:
    """A module with some names replaced, for code that says `module.name`."""

    def __init__(self, module: ModuleType, **names: object) -> None:
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@contextmanager
def patched(target: str, make: Make) -> Iterator[None]:
    """Let `target`, which must be in the table, be `make(what it is)` within the block.

    A static method stays one. Raises UnfitEnvironmentError where the target is gone and the patch is for correctness
    or determinism; other patches are left out then.
    """
    patch = PATCHES[target]
    try:
        owner, name = find_owner(target)
        before = vars(owner)[name]
    except (ImportError, AttributeError, KeyError) as error:
        _without(patch, error)
        yield
        return
    with LOCK:
        made = make(getattr(owner, name))
        setattr(owner, name, staticmethod(made) if isinstance(before, staticmethod) else made)
        try:
            yield
        finally:
            setattr(owner, name, before)


def find_owner(target: str) -> tuple[object, str]:
    """Return the module or class that holds `target`, and its name there."""
    module, _, path = target.partition(":")
    *classes, name = path.split(".")
    owner: object = importlib.import_module(module)
    for part in classes:
        owner = getattr(owner, part)
    return owner, name


def source_digest(target: str) -> str | None:
    """The digest of a function's or class's source as the table has it; None for what another package defines."""
    owner, name = find_owner(target)
    found = getattr(owner, name)
    own = getattr(found, "__module__", None) or ""
    if not (inspect.isroutine(found) or inspect.isclass(found)) or own.partition(".")[0] != target.partition(".")[0]:
        return None
    text = textwrap.dedent(inspect.getsource(found))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without(patch: Patch, error: Exception) -> None:
    package = patch.target.partition(".")[0]
    installed = metadata.version(package)
    if patch.purpose in _OPTIONAL:
        _LOG.info("%s %s has no %s: builder works without (%s)", package, installed, patch.target, patch.reason)
        return
    raise UnfitEnvironmentError(
        f"{package} {installed} has no {patch.target}, which builder replaces because it {patch.reason}",
        code="B0702",
        hint=f"install the version that builder is tested with: `{install_command(package)}`",
    ) from error
