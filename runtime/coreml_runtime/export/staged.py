"""What is exported of a file: its inputs, outputs and operators, and how to run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from coreml_runtime.export.networks import Around
from coreml_runtime.features import ArrayFeature, Feature
from coreml_runtime.forms import Form
from coreml_runtime.ops.table import Value

if TYPE_CHECKING:
    from google.protobuf.message import Message


Run = Callable[[dict[str, Value], dict[str, Tensor], Around], dict[str, Value]]


@dataclass(frozen=True, kw_only=True)
class Staged:
    """What is exported of a file.

    `declared` is what it says of outputs. `weights` names the constants that an operator reads, with their shapes;
    `precisions` says in which of fp16 and fp32 an operator of an ML program computes.
    """

    specification: Message
    inputs: dict[str, Feature]
    declared: dict[str, Feature]
    states: Mapping[str, ArrayFeature]
    outputs: tuple[str, ...]
    operators: tuple[str, ...]
    run: Run
    weights: Mapping[str, tuple[tuple[str, tuple[int, ...]], ...]] = field(default_factory=dict)
    precisions: Mapping[str, str] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    forms: tuple[Form, ...] = ()
    """How the file stores its compressed weights."""
