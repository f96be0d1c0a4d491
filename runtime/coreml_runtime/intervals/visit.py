"""What is known of one operator: its operands and results, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from coreml_runtime.binding import Known, hold
from coreml_runtime.dtypes import Precision
from coreml_runtime.intervals.interval import Interval, anything, of_constant
from coreml_runtime.intervals.unary import RANGES
from coreml_runtime.ops.context import TensorType
from coreml_runtime.program import Constant, Operation

PRECISION: Precision = "half"
"""How constants are held."""
HALF_MAX = 65504.0
FLOAT_MAX = 3.4028234663852886e38


@dataclass(frozen=True, kw_only=True, eq=False)
class Operand:
    """One argument of an operator, or one of its results."""

    name: str | None
    """None where the file has the constant in its place."""
    type: TensorType | None
    value: Interval | Known | Constant
    sure: bool = True
    """Whether nothing that it depends on may overflow, or not be a number: then the bounds hold without a condition."""

    @property
    def dtype(self) -> str:
        """MIL's name of the dtype; empty for what is not a tensor."""
        return "" if self.type is None else self.type.dtype

    @property
    def constant(self) -> Tensor | None:
        """A known tensor."""
        known = self.value if isinstance(self.value, Known) else None
        if isinstance(self.value, Constant):
            known = hold(self.value, PRECISION)
        return known.value if known is not None and isinstance(known.value, Tensor) else None

    @cached_property
    def interval(self) -> Interval:
        """Its bounds; of a weight only when somebody asks, since they are all read for that."""
        if isinstance(self.value, Interval):
            return self.value
        constant = self.constant
        return anything(()) if constant is None else of_constant(constant)


@dataclass(frozen=True, kw_only=True)
class Visit:
    """An operator with what it takes and gives, in the order of the program; nested blocks come before their owner."""

    operation: Operation
    inputs: Mapping[str, tuple[Operand, ...]]
    outputs: tuple[Operand, ...]
    known: bool
    """Whether there is a transfer function that could be asked."""
    nested: bool = False


def most(dtype: str) -> float:
    """The largest finite value of a dtype."""
    return {"fp16": HALF_MAX, "fp32": FLOAT_MAX}.get(dtype, float(RANGES.get(dtype, (0, math.inf))[1]))
