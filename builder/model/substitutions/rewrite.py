"""Replacing modules of a tree: nested ones, shared ones, and the root."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import CellType, FunctionType, ModuleType
from typing import Any

import torch
from torch.nn.utils import parametrize

from builder.errors import ConversionError
from builder.model.substitutions.fast_path import leave_fast_path

Matches = Callable[[torch.nn.Module], bool]
Replace = Callable[[torch.nn.Module], torch.nn.Module]
_WHOLE = (torch.jit.ScriptFunction, torch.Generator, ModuleType)
"""What `copy.deepcopy` refuses."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One way to a module: its path from the root, and the slot of its parent that holds it."""

    path: str
    parent: torch.nn.Module
    name: str
    module: torch.nn.Module

    @property
    def slot(self) -> tuple[int, str]:
        """The same for all paths that lead to this child of this parent."""
        return id(self.parent), self.name


def rewrite(
    root: torch.nn.Module, matches: Matches, patterns: Sequence[str] | None, replace: Replace
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Return a copy of `root` in which every module that matches is replaced, and the paths that were.

    Given `features.0.2: ReLU6`, with `replace` making a ReLU. Result: `features.0.2: ReLU`, and everything else as
    it was, with the same parameters in a copy. `patterns` are globs of module paths; None is every path, and the
    root's own path is the empty one. A module that stands in several places is replaced by one new module in all of
    the places that match; what a replaced module contained is not looked at, and neither are new modules.

    Raises ConversionError when a replaced module has forward hooks or parametrizations, which would be lost.
    """
    return rewrite_in_place(copy_module(root), matches, patterns, replace)


def rewrite_in_place(
    root: torch.nn.Module, matches: Matches, patterns: Sequence[str] | None, replace: Replace
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Do as `rewrite`, in a tree that is a copy already; return its root, which may have been replaced."""
    top = _above(root)
    chosen = {place.slot for place in _walk(top, lambda p: matches(p.module) and selected(p.path, patterns))}
    places = list(_walk(top, lambda place: place.slot in chosen))
    made: dict[int, torch.nn.Module] = {}
    for place in places:
        if id(place.module) not in made:
            made[id(place.module)] = _replaced(place, replace)
    for place in places:
        place.parent._modules[place.name] = made[id(place.module)]
    new = top._modules["root"]
    assert new is not None
    leave_fast_path(new, {id(m) for m in made.values()})
    return new, tuple(place.path for place in places)


def find(root: torch.nn.Module, matches: Matches, patterns: Sequence[str] | None) -> list[tuple[str, torch.nn.Module]]:
    """Return all paths whose module matches, those of shared modules each; below a match nothing is looked for."""
    return [(p.path, p.module) for p in _walk(_above(root), lambda p: matches(p.module) and selected(p.path, patterns))]


def selected(path: str, patterns: Sequence[str] | None) -> bool:
    """Whether one of the glob patterns matches a path; None matches every path."""
    return patterns is None or any(fnmatchcase(path, pattern) for pattern in patterns)


def copy_module(root: torch.nn.Module, *, share_parameters: bool = False) -> torch.nn.Module:
    """Return a deep copy, also of modules whose weights are computed (torch.nn.utils.weight_norm).

    With `share_parameters` it has the parameters themselves, for a copy that nobody rewrites: those of large models
    are gigabytes. Buffers are its own in any case, since running a module changes them.

    `copy.deepcopy` refuses the tensors that those keep as plain attributes; they are computed anew by each forward.
    What cannot be copied at all, as compiled functions and modules of Python, is shared.
    Copies of a ScriptModule's parameters would remember that they are copies, were gradients not switched off.
    """
    computed = {
        id(value): value.detach().clone()
        for module in root.modules()
        for value in vars(module).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    shared = {id(parameter): parameter for parameter in root.parameters()} if share_parameters else {}
    held = (value for module in root.modules() for value in _held(vars(module)))
    whole = {id(value): value for value in held if isinstance(value, _WHOLE)}
    memo: dict[int, Any] = {**computed, **shared, **whole}
    with torch.no_grad():
        copied = copy.deepcopy(root, memo)
    _rebind_hooks(copied, {id(module): memo[id(module)] for module in root.modules() if id(module) in memo})
    return copied


def _rebind_hooks(copied: torch.nn.Module, copies: Mapping[int, torch.nn.Module]) -> None:
    """Let hooks that are functions within functions of a module speak of its copy: functions are not copied.

    Given:   self.layer.register_forward_hook(lambda layer, given, out: self.features.append(out))
    """
    for module in copied.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in hooks.items():
                if isinstance(hook, FunctionType) and hook.__closure__:
                    hooks[key] = _rebound(hook, copies)


def _rebound(function: FunctionType, copies: Mapping[int, torch.nn.Module]) -> FunctionType:
    def bound(cell: CellType) -> CellType:
        try:
            return CellType(copies[id(cell.cell_contents)])
        except (KeyError, ValueError):  # something else, or nothing yet
            return cell

    cells = tuple(map(bound, function.__closure__ or ()))
    rebound = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    rebound.__kwdefaults__ = function.__kwdefaults__
    return rebound


def _held(attributes: Mapping[str, object]) -> Iterator[object]:
    """Attributes, and what lists and dictionaries among them hold."""
    for value in attributes.values():
        yield value
        if isinstance(value, dict | list | tuple):
            yield from value.values() if isinstance(value, dict) else value


def refuse_hooks(module: torch.nn.Module, path: str) -> None:
    """Raise ConversionError when `module` has forward hooks, or weights that hooks or parametrizations compute."""
    what = f"{path or 'the root'} ({parametrize.type_before_parametrizations(module).__name__})"
    if parametrize.is_parametrized(module):
        raise ConversionError(
            f"{what} has parametrizations, which its replacement would lose",
            code="B0407",
            hint="put the substitution parametrization_removal before this one",
        )
    if module._forward_hooks or module._forward_pre_hooks:
        raise ConversionError(
            f"{what} has forward hooks, which its replacement would lose",
            code="B0407",
            hint="put parametrization_removal before this one where they compute weights; else remove them in a "
            "`kind: rewrite` of your own, or exclude the module with `modules`",
        )


def _above(root: torch.nn.Module) -> torch.nn.Module:
    """A parent for the root, so that the root is a child like all others."""
    top = torch.nn.Module()
    top._modules["root"] = root
    return top


def _walk(top: torch.nn.Module, wanted: Callable[[Place], bool]) -> Iterator[Place]:
    """Yield the places that are wanted, and look below the others."""

    def below(parent: torch.nn.Module, prefix: str | None) -> Iterator[Place]:
        for name, child in _children(parent):
            path = "" if prefix is None else f"{prefix}.{name}" if prefix else name
            place = Place(path=path, parent=parent, name=name, module=child)
            if wanted(place):
                yield place
            else:
                yield from below(child, path)

    yield from below(top, None)


def _children(module: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """All children, those that stand in several places every time (`named_children` shows them once).

    Those of TorchScript are compiled in: nothing can be put in their place.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return []
    return [(name, child) for name, child in module._modules.items() if child is not None]


def _replaced(place: Place, replace: Replace) -> torch.nn.Module:
    old = place.module
    new = replace(old)
    if not any(m is old for m in new.modules()):
        refuse_hooks(old, place.path)
    return new if new is old else new.train(old.training)
