"""A program as the count sees it: steps that read and write values, each with its bytes and its work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operator."""

    name: str
    kind: str
    reads: tuple[str, ...]
    """Activations, each once; constants are not among them."""
    writes: tuple[str, ...]
    macs: int | None
    stored: Mapping[str, int] = field(default_factory=dict)
    """By constant: its bytes in the file."""
    computed: Mapping[str, int] = field(default_factory=dict)
    """By constant as it is computed with, dense: its bytes."""
    is_view: bool = False
    """Whether it only gives what it reads another shape: the output is the memory of the input."""
    inner: tuple[Step, ...] = ()
    """Of a loop or a choice: the operators that it executes."""
    turns: int = 1
    """How often it executes them."""
    is_open: bool = False
    """Whether the inputs decide that."""
    extra: int = 0
    """Bytes that the inner operators need on top of what it reads and writes."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One function, in the order of the file."""

    steps: tuple[Step, ...]
    bytes: Mapping[str, int]
    """By activation; one of unknown shape is not in it."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: int = 0
