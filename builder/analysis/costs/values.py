"""What is known of a value of a program: its type and shape, whether it is a constant, and its numbers where few."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from coreml_runtime.dtypes import SUB_BYTE, held, stored
from coreml_runtime.ops.context import UNKNOWN_RANK, TensorType
from coreml_runtime.program import Constant, Named, StateType, ValueType

Shape = tuple[int, ...]
_BITS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Value:
    """One value, or one constant."""

    name: str
    type: TensorType | None
    shape: Shape | None
    """None where it is not a tensor, or its shape is not known."""
    known: Any = None
    """Its numbers as a tensor, or its text, where these are known and few; else None."""
    sources: Mapping[str, int] | None = None
    """Of what follows from constants alone: their bytes in the file, by name. None of an activation."""

    @property
    def bytes(self) -> int | None:
        """What it takes in memory; None where that is not known."""
        if self.type is None or self.shape is None or self.type.dtype == "string":
            return None
        return size_of(self.type.dtype, self.shape)

    @property
    def outline(self) -> Any:
        """What kernels are asked with: the value, or a tensor that has a shape and nothing else."""
        if self.known is not None or self.type is None or self.shape is None:
            return self.known
        return torch.empty(self.shape, dtype=held(self.type.dtype, "fast"), device="meta")


def size_of(dtype: str, shape: Shape) -> int:
    """Bytes of a tensor of MIL's type; types below a byte are packed, as files have them."""
    elements = math.prod(shape)
    if dtype in SUB_BYTE:
        return -(-elements * SUB_BYTE[dtype][0] // _BITS)
    return elements * stored(dtype).itemsize


def tensor_type(type_: ValueType) -> TensorType | None:
    """Of a tensor, or of what a state holds."""
    type_ = type_.wrapped if isinstance(type_, StateType) else type_
    return type_ if isinstance(type_, TensorType) else None


def declared_shape(type_: TensorType | None) -> Shape | None:
    """Where the file declares every size."""
    if type_ is None or type_.shape == UNKNOWN_RANK or type_.dtype == "string":
        return None
    sizes = tuple(size for size in type_.shape if size is not None)
    return sizes if len(sizes) == len(type_.shape) else None


def of_constant(name: str, constant: Constant) -> Value:
    """A constant of the file."""
    type_ = tensor_type(constant.type)
    shape = declared_shape(type_)
    known = constant.value
    if isinstance(known, torch.Tensor) and known.is_meta:
        known = None
    size = 0 if type_ is None or shape is None else size_of(type_.dtype, shape)
    return Value(name=name, type=type_, shape=shape, known=known, sources={name: size})


def of_result(entry: Named, result: object, sources: Mapping[str, int] | None) -> Value:
    """A value that an operator gives; `result` is what its kernel gave for outlines, None where it was not asked."""
    type_ = tensor_type(entry.type)
    shape, known = declared_shape(type_), None
    if isinstance(result, torch.Tensor):
        shape = tuple(result.shape)
        known = None if result.is_meta else result
    return Value(name=entry.name, type=type_, shape=shape, known=known, sources=sources)


class Outlines(TorchDispatchMode):
    """Lets operations on tensors without numbers take tensors with numbers as well."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no annotation here

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to skip it, torch imports all of `torch._dynamo` (a second), and nothing here is compiled."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> Any:
        """Call `func`, without numbers as soon as one of its tensors has none."""
        flat, spec = tree_flatten((args, kwargs or {}))
        if any(isinstance(each, torch.Tensor) and each.is_meta for each in flat):
            flat = [each.to("meta") if isinstance(each, torch.Tensor) else each for each in flat]
        args, kwargs = tree_unflatten(flat, spec)
        return func(*args, **kwargs)
