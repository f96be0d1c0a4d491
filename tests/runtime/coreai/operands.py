"""What cases are made of: operands, and one operation on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Operand:
    """A value that goes in: an input of the graph, or a constant of it. `element` is MLIR's name of the type."""

    array: Array
    element: str
    constant: bool

    @property
    def type(self) -> str:
        """MLIR's tensor type."""
        return tensor("x".join([*map(str, self.array.shape), self.element]))


@dataclass(frozen=True, kw_only=True)
class Case:
    """One operation. `results` are types such as "2x3xf32"; `ulps` is the error that rounding may make."""

    operator: str
    label: str
    operands: tuple[Operand, ...]
    results: tuple[str, ...]
    attributes: str = ""
    ulps: float = 4

    @property
    def name(self) -> str:
        """For files and reports."""
        return f"{self.operator.replace('.', '_')}-{self.label}"


_ELEMENTS = {
    "float32": "f32", "float16": "f16", "int32": "si32", "int16": "si16", "int8": "si8", "uint32": "ui32",
    "uint16": "ui16", "uint8": "ui8", "bool": "i1", "complex64": "complex<f32>",
}  # fmt: skip


def tensor(type_: str) -> str:
    """MLIR's tensor type."""
    return f"tensor<{type_}>"


def value(array: Any, dtype: str, *, element: str | None = None, constant: bool = False) -> Operand:
    """An operand of a numpy type."""
    found = np.asarray(array, dtype=dtype)
    return Operand(array=found, element=element or _ELEMENTS[found.dtype.name], constant=constant)


def f32(array: Any) -> Operand:
    """An input."""
    return value(array, "float32")


def f16(array: Any) -> Operand:
    """An input."""
    return value(array, "float16")


def i32(array: Any) -> Operand:
    """An input."""
    return value(array, "int32")


def boolean(array: Any) -> Operand:
    """An input."""
    return value(array, "bool")


def ints(*numbers: int) -> Operand:
    """A constant vector si32."""
    return value(list(numbers), "int32", constant=True)


def sizes(*numbers: int) -> Operand:
    """A constant vector ui32."""
    return value(list(numbers), "uint32", constant=True)


def scalar(number: float, dtype: str = "int32") -> Operand:
    """A constant of rank 0."""
    return value(number, dtype, constant=True)


def constant(array: Any, dtype: str, element: str | None = None) -> Operand:
    """A constant."""
    return value(array, dtype, element=element, constant=True)


def case(
    operator: str, label: str, operands: list[Operand], *results: str, attributes: str = "", ulps: float = 4
) -> Case:
    """A case of one operation."""
    return Case(
        operator=operator, label=label, operands=tuple(operands), results=results, attributes=attributes, ulps=ulps
    )
