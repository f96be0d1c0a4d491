"""How an argument of an operation meets a parameter of a kernel: at plan time where it is known, else when it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from coreml_runtime.dtypes import Precision, held
from coreml_runtime.errors import ModelError
from coreml_runtime.ops.context import TensorType
from coreml_runtime.ops.open_sizes import whole
from coreml_runtime.ops.table import Kernel, Parameter, Value, parameters
from coreml_runtime.program import Constant, ValueType


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A value computed while the plan runs, by its place in the frame, with its declared type."""

    index: int
    type: ValueType


class Known:
    """A value that does not depend on a prediction.

    `stored` is it as the file has it, to be converted to `dtype` on its first use as a tensor. A decompressed weight
    may be made on demand instead: `make` returns it, and `outline` tells its shape and type until then.
    """

    __slots__ = ("_make", "_outline", "_raw", "_value", "dtype")

    def __init__(
        self,
        stored: object = None,
        dtype: torch.dtype | None = None,
        *,
        make: Callable[[], Value] | None = None,
        outline: torch.Tensor | None = None,
    ) -> None:
        self.dtype = dtype
        self._raw, self._value, self._make, self._outline = stored, None, make, outline

    @property
    def raw(self) -> Value:
        """The value as stored."""
        if self._make is not None:
            self._raw, self._make = self._make(), None
        return self._raw

    @property
    def outline(self) -> torch.Tensor | None:
        """A tensor without data of the stored value's shape and type; None for text and tuples."""
        if self._make is not None:
            return self._outline
        return self._raw.to("meta") if isinstance(self._raw, torch.Tensor) else None

    @property
    def value(self) -> Value:
        """The value in the type that holds it: converted once, then shared by all that use it."""
        if self._value is None:
            raw = self.raw
            self._value = self._raw = raw if self.dtype is None else raw.to(self.dtype)
        return self._value


Argument = Slot | Known


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """A kernel's arguments: `known` by value, `tensors` and `groups` by slot, `converted` by slot and conversion."""

    known: Mapping[str, Value]
    tensors: tuple[tuple[str, int], ...]
    groups: tuple[tuple[str, tuple[Argument, ...]], ...]
    converted: tuple[tuple[str, int, Callable[[Value], Value]], ...]
    context: bool

    @property
    def is_known(self) -> bool:
        """Whether nothing has to wait for the run."""
        return not (self.tensors or self.groups or self.converted)

    def gather(self, frame: list[object]) -> dict[str, Value]:
        """The arguments that a run provides, as keywords."""
        arguments = {name: frame[slot] for name, slot in self.tensors}
        for name, members in self.groups:
            arguments[name] = tuple(
                frame[member.index] if isinstance(member, Slot) else member.value for member in members
            )
        for name, slot, convert in self.converted:
            arguments[name] = convert(frame[slot])
        return arguments


def hold(constant: Constant, precision: Precision) -> Known:
    """A constant of the file as a known value."""
    return Known(constant.value, _held_type(constant.type, precision))


def bind_arguments(kernel: Kernel, given: Mapping[str, tuple[Argument, ...]], where: str) -> Bound:
    """Bind what the file gives to what the kernel takes. Arguments that it does not take were refused before."""
    values: dict[str, object] = {}
    tensors: list[tuple[str, int]] = []
    groups: list[tuple[str, tuple[Argument, ...]]] = []
    converted: list[tuple[str, int, Callable[[Value], Value]]] = []
    context = False
    for parameter in parameters(kernel):
        members = given.get(parameter.name, ())
        if parameter.kind == "context":
            context = True
        elif parameter.name not in given:
            if parameter.required:
                raise ModelError(f"{where}: the argument {parameter.name!r} is missing")
        elif parameter.kind == "tensors":
            if all(isinstance(member, Known) for member in members):
                values[parameter.keyword] = tuple(member.value for member in members if isinstance(member, Known))
            else:
                groups.append((parameter.keyword, members))
        elif len(members) != 1:
            raise ModelError(f"{where}: the argument {parameter.name!r} takes one value, {len(members)} are given")
        elif isinstance(members[0], Known):
            values[parameter.keyword] = _convert_known(parameter, members[0], where)
        elif parameter.kind in _CONVERSIONS:
            converted.append((parameter.keyword, members[0].index, _CONVERSIONS[parameter.kind]))
        else:
            tensors.append((parameter.keyword, members[0].index))
    return Bound(
        known=values, tensors=tuple(tensors), groups=tuple(groups), converted=tuple(converted), context=context
    )


def _convert_known(parameter: Parameter, constant: Known, where: str) -> Value:
    convert = _CONVERSIONS.get(parameter.kind)
    try:
        value = constant.value if convert is None else convert(constant.raw)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ModelError(
            f"{where}: the argument {parameter.name!r} cannot be read as {parameter.kind}: {error}"
        ) from error
    if parameter.kind == "tensor" and not isinstance(value, torch.Tensor):
        raise ModelError(f"{where}: the argument {parameter.name!r} is {value!r}, a tensor is expected")
    return value


def _held_type(declared: ValueType, precision: Precision) -> torch.dtype | None:
    if isinstance(declared, TensorType) and declared.dtype != "string":
        return held(declared.dtype, precision)
    return None


def _items(value: Value) -> tuple[Value, ...]:
    if isinstance(value, tuple):
        return tuple(each.item() if isinstance(each, torch.Tensor) else each for each in value)
    return tuple(value.reshape(-1).tolist())


def _ints(value: object) -> tuple[Value, ...]:
    return tuple(map(whole, _items(value)))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _strings(value: Value) -> tuple[str, ...]:
    return tuple(_text(each) for each in ((value,) if isinstance(value, str) else value))


def _truth(value: object) -> tuple[bool, ...]:
    return tuple(bool(each) for each in _items(value))


_CONVERSIONS: dict[str, Callable[[Value], Value]] = {
    "ints": _ints,
    "floats": lambda value: tuple(float(each) for each in _items(value)),
    "bools": _truth,
    "int": lambda value: whole(value.item()),
    "float": lambda value: float(value.item()),
    "bool": lambda value: bool(value.item()),
    "str": _text,
    "strings": _strings,
    "labels": _items,
}
