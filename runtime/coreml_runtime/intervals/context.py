"""How families of operators declare their transfer functions, and what such a function knows beyond its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from coreml_runtime.intervals.interval import Interval
from coreml_runtime.ops.context import TensorType
from coreml_runtime.ops.table import Value

Operand = Interval | Tensor
"""What is computed, or known."""

Transfer = Callable[..., Value]
"""Takes the arguments of an operator's kernel, by the same keywords, with intervals in the place of values that are
computed, and `outputs`; gives the interval of its output, or a tuple of those of all."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The declared types of an operator's outputs, None where one is not a tensor; and the program's opset."""

    types: tuple[TensorType | None, ...]
    opset: str
    given: Mapping[str, str] = field(default_factory=dict)
    """By argument, MIL's name of the dtype of a value that is computed."""

    def is_float(self, argument: str) -> bool:
        """Whether an argument is of floats."""
        return self.given.get(argument, "fp32").startswith(("fp", "bf"))

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """Of the first output."""
        first = self.types[0]
        return () if first is None else first.shape

    @property
    def is_integer(self) -> bool:
        """Whether the first output is of integers."""
        first = self.types[0]
        return first is not None and "int" in first.dtype


def table(*transfers: Transfer) -> dict[str, Transfer]:
    """A family's table, keyed by MIL's name: the function's name without the underscore that keeps builtins free."""
    return {transfer.__name__.rstrip("_"): transfer for transfer in transfers}
