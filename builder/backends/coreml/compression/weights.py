"""The weights of a MIL program, as the operators that compute with them see them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Program, Var
    from coremltools.models import MLModel

Slot = tuple[str, str]
"""Where a weight is used: an operator's name and its argument's."""

_FUSED = re.compile(r"const_\d")

_LEAST = 10
"""Constants with fewer elements are stored in the program itself, not as weights (coremltools)."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A constant of floating-point numbers with two axes or more, plain or already compressed."""

    name: str
    """What the constant was named before any compression."""
    slots: tuple[Slot, ...]
    op_types: frozenset[str]
    """The types of the operators that use it."""
    size: int
    form: tuple[Var | str, ...]
    """How it is stored: equal as long as nothing has compressed it further."""

    @property
    def is_compressed(self) -> bool:
        """Whether a `constexpr_*` operator makes it."""
        return len(self.form) > 1

    @property
    def names(self) -> frozenset[str]:
        """All names by which a recipe can choose it: its own and those of its operators."""
        return frozenset({self.name, *(operator for operator, _ in self.slots)})


def find_weights(program: Program, names: Mapping[Slot, str]) -> list[Weight]:
    """The weights of all functions in the order of their first use; `names` are those given before."""
    found: dict[int, Var] = {}
    uses: dict[int, list[tuple[Slot, str]]] = {}
    for op in _operators(program):
        for argument, variable in _constants(op):
            found.setdefault(id(variable), variable)
            uses.setdefault(id(variable), []).append(((op.name, argument), op.op_type))
    return [
        Weight(
            name=names.get(uses[key][0][0]) or _name(variable, uses[key][0][0]),
            slots=tuple(slot for slot, _ in uses[key]),
            op_types=frozenset(kind for _, kind in uses[key]),
            size=int(np.prod(variable.shape)),
            form=tuple(_form(variable)),
        )
        for key, variable in found.items()
    ]


def program_of(model: MLModel) -> Program:
    """The MIL program of an ML program that coremltools has in memory, as compression gets it."""
    from coremltools.models.utils import _apply_graph_pass

    return _apply_graph_pass(model, [], return_pymil_prog=True)


def operators_of(program: Program) -> dict[str, frozenset[str]]:
    """By name of each weight of an uncompressed program, the outputs of the operators that compute with it."""
    outputs = {str(op.name): [str(output.name) for output in op.outputs] for op in _operators(program)}
    return {
        weight.name: frozenset(output for operator, _ in weight.slots for output in outputs[operator])
        for weight in find_weights(program, {})
    }


def _name(variable: Var, slot: Slot) -> str:
    """The constant's name; where coremltools made it by fusion, with what says more: where it is used."""
    name = str(variable.op.name)
    return f"{name} ({slot[1]} of {slot[0]})" if _FUSED.match(name) else name


def slots_of(op: Operation) -> frozenset[Slot]:
    """Where the weight that the constant or `constexpr_*` operator `op` belongs to is used."""
    return frozenset(_slots(op))


def _slots(op: Operation) -> Iterator[Slot]:
    for output in op.outputs:
        for child in output.child_ops:
            if child.op_type.startswith("constexpr_"):
                yield from _slots(child)
            else:
                yield from ((child.name, argument) for argument, value in _arguments(child) if value is output)


def _operators(program: Program) -> Iterator[Operation]:
    blocks = list(program.functions.values())
    while blocks:
        for op in blocks.pop(0).operations:
            blocks += op.blocks
            if op.op_type != "const" and not op.op_type.startswith("constexpr_"):
                yield op


def _arguments(op: Operation) -> Iterator[tuple[str, Var]]:
    for argument, value in op.inputs.items():
        for variable in value if isinstance(value, list | tuple) else (value,):
            yield argument, variable


def _constants(op: Operation) -> Iterator[tuple[str, Var]]:
    """The arguments of `op` that are weights."""
    from coremltools.converters.mil.mil import types
    from coremltools.converters.mil.mil.var import ListVar

    for argument, variable in _arguments(op):
        made_by = None if variable is None else variable.op
        if made_by is None or isinstance(variable, ListVar):  # such as the labels of a classifier
            continue
        if made_by.op_type != "const" and not made_by.op_type.startswith("constexpr_"):
            continue
        if types.is_float(variable.dtype) and variable.rank >= 2 and np.prod(variable.shape) >= _LEAST:
            yield argument, variable


def _form(variable: Var) -> Iterator[Var | str]:
    """The operators that make a weight, the outermost first; the constants keep each other apart by identity."""
    if variable.op.op_type == "const":
        yield variable
        return
    yield variable.op.op_type
    for _, value in sorted(_arguments(variable.op), key=lambda argument: argument[0]):
        if value is not None and value.op is not None:
            yield from _form(value)
