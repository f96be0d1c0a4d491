"""What a shipped rewrite is: what it applies to, whether it is exact, and the function that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from builder.errors import ConversionError
from builder.model.substitutions.rewrite import Matches, rewrite
from builder.model.substitutions.shapes import Run
from builder.model.substitutions.user import import_module_type, is_of_type
from builder.spec.substitutions import ShippedRewrite

Rewritten = tuple[nn.Module, tuple[str, ...]]
Type = type[nn.Module] | str
"""A module type; one of a library that need not be installed as `package.module:Name`, where it is defined."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A shipped rewrite: one of `module`, `tree` and `measured` does it, and its docstring describes it."""

    types: tuple[Type, ...]
    exact: bool
    module: Callable[[Any], nn.Module] | None = None
    """Makes a new module of an old one."""
    tree: Callable[..., Rewritten] | None = None
    """Takes the root, `matches`, the patterns."""
    measured: Callable[..., Rewritten] | None = None
    """Takes the root, `matches`, the patterns, and what runs the examples."""
    only: Callable[[nn.Module], bool] = lambda _: True
    """Which modules of the types."""

    @property
    def function(self) -> Callable[..., object]:
        """The one function that does it."""
        (function,) = [f for f in (self.module, self.tree, self.measured) if f is not None]
        return function

    def apply(self, root: nn.Module, given: ShippedRewrite, run: Run, *, key: str) -> Rewritten:
        """Return a rewritten copy of `root`, and the paths of what was replaced."""
        matches = _matches(self, given, key=key)
        if self.module is not None:
            return rewrite(root, matches, given.modules, self.module)
        if self.tree is not None:
            return self.tree(root, matches, given.modules)
        assert self.measured is not None
        return self.measured(root, matches, given.modules, run)


def _matches(entry: Entry, given: ShippedRewrite, *, key: str) -> Matches:
    if given.type is None:
        return lambda m: _is_one_of(parametrize.type_before_parametrizations(m), entry.types) and entry.only(m)
    wanted = import_module_type(given.type, key=f"{key}.type")
    if not any(_is_one_of(base, entry.types) for base in wanted.__mro__):
        raise ConversionError(
            f"{given.kind} applies to {', '.join(name_of(t) for t in entry.types)}, and {given.type} is none of them",
            code="B0407",
            key=f"{key}.type",
        )
    return lambda m: is_of_type(m, wanted) and entry.only(m)


def _is_one_of(kind: type, types: tuple[Type, ...]) -> bool:
    if types == (torch.nn.Module,):
        return True
    return kind in types or f"{kind.__module__}:{kind.__qualname__}" in types


def name_of(kind: Type) -> str:
    """Return how a recipe writes a type."""
    if isinstance(kind, str):
        return kind
    return f"torch.nn:{kind.__name__}"
