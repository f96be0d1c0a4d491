"""What the rules look at: the operators of a file with shapes, dtypes and constants, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A declared tensor: MIL's name of its dtype, and its sizes, None where one varies."""

    dtype: str
    shape: tuple[int | None, ...]

    @property
    def elements(self) -> int:
        """How many values it has; sizes that vary count as 1."""
        return math.prod(size or 1 for size in self.shape)


@dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator of an ML program, or a layer of a neural network, under MIL's names where there is one."""

    kind: str
    name: str
    outputs: tuple[Tensor, ...] = ()
    """Empty for layers of a neural network, whose file declares no shapes."""
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    """Those that are single tensors, by argument."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Small constant arguments (numbers, lists of numbers, texts) by argument."""


@dataclass(frozen=True, kw_only=True)
class Interface:
    """An input of the model."""

    name: str
    flexible: str | None
    """`range`, `enumerated`, or None for one fixed shape."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """All that is known of one file."""

    inputs: tuple[Interface, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One operator (or input) that a rule is about, and what of it."""

    name: str
    summary: str
