"""Models that change what they hold, and not their answers: every call begins as the first one did."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from types import SimpleNamespace
from typing import Any

import torch

_ABSENT = object()


def begin_as(model: torch.nn.Module, first: torch.nn.Module, paths: Iterable[str]) -> tuple[str, ...]:
    """Give `model` what `first`, which was never called, holds at these paths; return those that both have.

    A path is that of a buffer, or of an attribute of a module: `layers.0.count`. Where `first` has no such attribute
    yet, `model` loses it.
    """
    begun = []
    for path in paths:
        owner, name = _owner(model, path)
        other, _ = _owner(first, path)
        if owner is None or other is None or type(owner) is not type(other):
            continue
        _put(owner, name, _copied(_held(other, name)))
        begun.append(path)
    return tuple(begun)


@contextmanager
def as_at_first(model: torch.nn.Module, paths: Sequence[str]) -> Iterator[None]:
    """Let what `model` holds at these paths be copies for a while: what a call makes of them is not kept."""
    slots = [slot for slot in (_owner(model, path) for path in paths) if slot[0] is not None]
    before = [(owner, name, _held(owner, name)) for owner, name in slots]
    for owner, name, value in before:
        _put(owner, name, _copied(value))
    try:
        yield
    finally:
        for owner, name, value in before:
            _put(owner, name, value)


def _owner(model: torch.nn.Module, path: str) -> tuple[torch.nn.Module | None, str]:
    folder, _, name = path.rpartition(".")
    if isinstance(model, torch.jit.ScriptModule):  # compiled as a whole, to be captured
        return None, name
    try:
        return model.get_submodule(folder), name
    except AttributeError:  # a substitution put something else there
        return None, name


def _held(owner: torch.nn.Module | None, name: str) -> Any:
    assert owner is not None, "slots without a module are left out"
    return owner._buffers[name] if name in owner._buffers else vars(owner).get(name, _ABSENT)


def _put(owner: torch.nn.Module | None, name: str, value: Any) -> None:
    """Without what `setattr` of a module does besides."""
    assert owner is not None, "slots without a module are left out"
    if name in owner._buffers:
        owner._buffers[name] = value
    elif value is _ABSENT:
        vars(owner).pop(name, None)
    else:
        vars(owner)[name] = value


def _copied(value: Any) -> Any:
    """A copy of a tensor or of a collection, with copies of the tensors in it; anything else is itself."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        copied = copy.copy(value)
        copied.update({key: _copied(each) for key, each in value.items()})
        return copied
    if isinstance(value, list | deque):
        several = copy.copy(value)
        for number, each in enumerate(value):
            several[number] = _copied(each)
        return several
    return copy.copy(value) if isinstance(value, SimpleNamespace) or is_dataclass(value) else value
