"""The states of original and artifact while checks execute both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from builder.checks.subject import Subject

Begin = Callable[[], None]
"""Sets the states of both sides to where each input beside the samples begins."""


@dataclass(frozen=True, kw_only=True)
class StateCarry:
    """The states that the functions of an artifact hand on from one to the next, by engine, on both sides.

    A function goes on with what the one before it left, as an app does that calls them with one `MLState`.
    """

    artifact: dict[str, Any] = field(default_factory=dict)
    """Changed in place by predictions: arrays by name, or what has `read_state` and `write_state`."""
    original: dict[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)
    """Copies by path of the buffer: the next engine runs the same modules."""

    def enter(self, engine: str, subject: Subject) -> None:
        """Set the original's states to what the function before left, or to zero for the first."""
        subject.reset()
        _set(subject, self.original.get(engine, {}))

    def leave(self, engine: str, subject: Subject) -> None:
        """Keep the original's states for the next function."""
        self.original[engine] = _copied(subject)

    @contextmanager
    def apart(self, engine: str, subject: Subject) -> Iterator[Begin]:
        """Let inputs be tried that do not belong to the sequence of samples; both sides keep their own states.

        What is yielded must be called before each input: it sets both sides to the original's states of now, so that
        no input meets what another left, and a difference between the sides comes of this input alone.
        """
        held = self.artifact.get(engine)
        names = {} if held is None else subject.prepared.states
        original = _copied(subject)
        artifact = {name: np.array(_read(held, name)) for name in names}

        def begin() -> None:
            _set(subject, original)
            for name, path in names.items():
                like = artifact[name]
                _write(held, name, original[path].numpy().astype(like.dtype).reshape(like.shape))

        try:
            yield begin
        finally:
            _set(subject, original)
            for name, value in artifact.items():
                _write(held, name, value)


def _copied(subject: Subject) -> dict[str, torch.Tensor]:
    return {path: value.detach().clone() for path, value in subject.states().items()}


def _set(subject: Subject, values: Mapping[str, torch.Tensor]) -> None:
    states = subject.states()
    for path, value in values.items():
        states[path].copy_(value)


def _read(held: Any, name: str) -> Any:
    return held[name] if isinstance(held, Mapping) else held.read_state(name)


def _write(held: Any, name: str, value: np.ndarray) -> None:
    if isinstance(held, MutableMapping):
        held[name] = value.copy()
    else:
        held.write_state(name, value)
