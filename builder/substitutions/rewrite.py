"""Replacing modules of a tree: nested ones, shared ones, and the root."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import torch

Matches = Callable[[torch.nn.Module], bool]
Replace = Callable[[torch.nn.Module], torch.nn.Module]


def rewrite(
    root: torch.nn.Module, matches: Matches, patterns: Sequence[str] | None, replace: Replace
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Return a copy of `root` in which every module that matches is replaced, and the paths that were.

    Given `features.0.2: ReLU6`, with `replace` making a ReLU. Result: `features.0.2: ReLU`, and everything else as
    it was, with the same parameters in a copy. `patterns` are globs of module paths; None is every path, and the
    root's own path is the empty one. A module that stands in several places is replaced by one new module in all of
    the places that match; what a replaced module contained is not looked at.
    """
    root = copy.deepcopy(root)
    made: dict[int, torch.nn.Module] = {}
    replaced: list[str] = []

    def visit(module: torch.nn.Module, path: str) -> torch.nn.Module:
        if matches(module) and _selected(path, patterns):
            if id(module) not in made:
                made[id(module)] = replace(module).train(module.training)
            replaced.append(path)
            return made[id(module)]
        for name, child in _children(module):
            new = visit(child, f"{path}.{name}" if path else name)
            if new is not child:
                setattr(module, name, new)
        return module

    return visit(root, ""), tuple(replaced)


def _children(module: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """All children, those that stand in several places every time (`named_children` shows them once)."""
    return [(name, child) for name, child in module._modules.items() if child is not None]


def _selected(path: str, patterns: Sequence[str] | None) -> bool:
    return patterns is None or any(fnmatchcase(path, pattern) for pattern in patterns)
