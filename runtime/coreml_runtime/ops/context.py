"""What a kernel may know beyond its arguments: opset, declared output types, random generator, blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from coreml_runtime.ops.table import Value

UNKNOWN_RANK: tuple[int | None, ...] = (None, -1)
"""The shape of a tensor of which a file says only that it has a variadic number of dimensions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorType:
    """A declared tensor: MIL's dtype name ("fp16", "fp32", "int32", "bool", "string"…), None for unknown sizes."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """Given to kernels that ask for it with a keyword `context`.

    `opset` is the lower-case iOS name ("ios15" … "ios18", "ios26"). `output_types` holds the declared type of each
    output, None where it is not a tensor (lists, dictionaries). `held` maps a MIL dtype name to the torch dtype
    that holds it in the chosen precision (fp16 is held in float32 unless the precision is native).
    `run_block(index, *arguments)` runs a nested block and returns its outputs as a tuple.
    """

    opset: str
    output_types: tuple[TensorType | None, ...]
    held: Callable[[str], torch.dtype]
    generator: torch.Generator
    run_block: Callable[..., tuple[Value, ...]]
    states: dict[str, torch.Tensor]

    def since(self, opset: str) -> bool:
        """Whether the program's opset is `opset` ("ios17") or newer."""
        return opset_number(self.opset) >= opset_number(opset)


def opset_number(opset: str) -> int:
    """17 for "ios17": to compare opsets."""
    return int(opset.removeprefix("ios"))


def is_real(tensor: torch.Tensor) -> bool:
    """Whether a tensor has values to look at: what depends on an input has none while a program is traced."""
    return type(tensor) in (torch.Tensor, torch.nn.Parameter)
