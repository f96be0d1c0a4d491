"""Functions by name, imported when they are called: so that a table names what is heavy or seldom used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from inspect import signature
from typing import Any


def resolve(path: str) -> Any:
    """Import `package.module:name` and return what it names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def call(path: str, arguments: Mapping[str, object]) -> Any:
    """Call the function `package.module:name` with those of `arguments` that its parameters name."""
    function = resolve(path)
    return function(**{name: arguments[name] for name in signature(function).parameters})
