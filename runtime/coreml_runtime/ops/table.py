"""How operator families declare their kernels, and the types that a kernel's parameters may have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias, TypeVar, get_type_hints

import torch

Value: TypeAlias = Any
"""What an operator takes or gives: a tensor, a list, a number, a text or several of them, as its definition says."""
Kernel = Callable[..., Value]
KernelType = TypeVar("KernelType", bound=Kernel)

Ints = tuple[int, ...]
Floats = tuple[float, ...]
Bools = tuple[bool, ...]
Strings = tuple[str, ...]
Tensors = tuple[torch.Tensor, ...]
Labels = tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ListValue:
    """A MIL list: immutable, so that a write makes a new one; `None` marks an element never written."""

    items: tuple[torch.Tensor | None, ...]
    dynamic: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One keyword of a kernel: `name` as MIL spells it, `keyword` as Python does; `kind` says how the plan binds it."""

    name: str
    keyword: str
    kind: str
    required: bool


def _kinds() -> dict[Any, str]:
    from coreml_runtime.ops.context import Context

    tensor = torch.Tensor
    plain: dict[Any, str] = {
        tensor: "tensor",
        Ints: "ints",
        Floats: "floats",
        Bools: "bools",
        Strings: "strings",
        Tensors: "tensors",
        Labels: "labels",
        int: "int",
        float: "float",
        bool: "bool",
        str: "str",
        ListValue: "list",
        Context: "context",
        Any: "any",
    }
    return plain | {kind | None: name for kind, name in plain.items() if kind is not Any}


@cache
def parameters(kernel: Kernel) -> tuple[Parameter, ...]:
    """The parameters of a kernel, read from its annotations; an annotation with no meaning here is a TypeError."""
    kinds = _kinds()
    hints = get_type_hints(kernel)
    found = []
    for parameter in inspect.signature(kernel).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(f"{kernel.__name__}: parameter {parameter.name!r} must be keyword-only")
        if hints.get(parameter.name) not in kinds:
            raise TypeError(f"{kernel.__name__}: no binding is defined for the annotation of {parameter.name!r}")
        found.append(
            Parameter(
                name=parameter.name.rstrip("_"),
                keyword=parameter.name,
                kind=kinds[hints[parameter.name]],
                required=parameter.default is inspect.Parameter.empty,
            )
        )
    return tuple(found)


def exact(kernel: KernelType) -> KernelType:
    """Mark a kernel whose floating outputs hold values of its inputs only: there is nothing to round."""
    kernel.exact = True  # type: ignore[attr-defined]  # a function carries its own mark, no second table to keep
    return kernel


def is_exact(kernel: Kernel) -> bool:
    """Whether `exact` marked the kernel."""
    return bool(getattr(kernel, "exact", False))


def fresh(kernel: KernelType) -> KernelType:
    """Mark a kernel whose output is memory of its own, so that it may be rounded in place."""
    kernel.fresh = True  # type: ignore[attr-defined]  # a function carries its own mark, no second table to keep
    return kernel


def is_fresh(kernel: Kernel) -> bool:
    """Whether `fresh` marked the kernel, or the function of a partial."""
    return bool(getattr(getattr(kernel, "func", kernel), "fresh", False))


def decompresses(kernel: KernelType) -> KernelType:
    """Mark a kernel that makes a weight from its compressed form: done once, when the weight is first needed."""
    kernel.decompresses = True  # type: ignore[attr-defined]  # a function carries its own mark, no second table to keep
    return kernel


def is_decompression(kernel: Kernel) -> bool:
    """Whether `decompresses` marked the kernel."""
    return bool(getattr(kernel, "decompresses", False))


def table(*kernels: Kernel) -> dict[str, Kernel]:
    """A family's table, keyed by MIL name: the function's name without the underscore that keeps builtins free."""
    return merge(*({kernel.__name__.rstrip("_"): kernel} for kernel in kernels))


def merge(*tables: dict[str, Kernel]) -> dict[str, Kernel]:
    """One table of many; a name that occurs twice is a ValueError."""
    merged: dict[str, Kernel] = {}
    for each in tables:
        for name, kernel in each.items():
            if name in merged:
                raise ValueError(f"operator {name} is defined twice")
            merged[name] = kernel
    return merged
