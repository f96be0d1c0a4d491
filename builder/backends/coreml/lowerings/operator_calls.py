"""Which of torch's operators a node of a program calls, and with what arguments."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, TypeAlias

from builder.backends.coreml.lowerings.binding import constant
from builder.backends.coreml.lowerings.lowering import Var

if TYPE_CHECKING:
    import torch
    from coremltools.converters.mil.frontend.torch.converter import TranscriptionContext
    from coremltools.converters.mil.frontend.torch.internal_graph import InternalTorchIRNode
    from torch._ops import OpOverload


CAPITALS = {"matrix_h": "matrix_H", "numpy_t": "numpy_T", "mh": "mH", "mt": "mT"}
"""Names that coremltools writes in small letters, as torch has them."""

Call: TypeAlias = "tuple[OpOverload, tuple[object, ...], dict[str, object]]"
"""An overload of torch's operator, and its arguments: variables, tensors and Python values."""


def possible_calls(context: TranscriptionContext, node: InternalTorchIRNode) -> list[Call]:
    """The overloads that a node may call, those first that take a number for a number and not for a tensor."""
    import torch
    from coremltools.converters.mil.frontend.torch.ops import _get_bindings, _get_inputs

    name, _, overload = node.kind.partition(".")
    packet = getattr(torch.ops.aten, CAPITALS.get(name, name), None)
    if packet is None or not hasattr(packet, "overloads"):
        return []
    given = _get_inputs(context, node)
    keywords = {key: _get_bindings(context, bound)[0] for key, bound in (node.kwinputs or {}).items()}
    found: list[tuple[int, Call]] = []
    for each in packet.overloads():
        operator = getattr(packet, each)
        arguments = operator._schema.arguments
        if (overload and each.lower() != overload) or len(given) > len(arguments) or any(a.is_out for a in arguments):
            continue
        bound = list(zip(arguments, given, strict=False))
        bound += [(a, keywords[a.name]) for a in arguments if a.name in keywords]
        if not all(_fits(argument, value) for argument, value in bound):
            continue
        values = [(argument, _value(argument, value)) for argument, value in bound]
        args = tuple(value for argument, value in values if not argument.kwarg_only)
        numbers = sum(_is_number_as_tensor(argument, value) for argument, value in bound)
        found.append((numbers, (operator, args, {a.name: value for a, value in values if a.kwarg_only})))
    return [call for _, call in sorted(found, key=lambda entry: entry[0])]


def without_out(node: InternalTorchIRNode) -> InternalTorchIRNode:
    """A node of a trace without the tensors that `out=` names, which are whatever it gives from then on.

    Where one of them is read by another name, the write is lost, and refused before.
    """
    import torch

    packet = getattr(torch.ops.aten, node.kind, None) if node.meta is None else None
    if packet is None or not hasattr(packet, "overloads"):
        return node
    counts: dict[bool, set[tuple[int, int]]] = {True: set(), False: set()}
    for each in packet.overloads():
        arguments = getattr(packet, each)._schema.arguments
        outs = sum(argument.is_out for argument in arguments)
        counts[outs > 0].add((len(arguments), outs))
    found = [outs for count, outs in counts[True] if count == len(node.inputs)]
    if not found or any(count == len(node.inputs) for count, _ in counts[False]):
        return node
    plain = copy.copy(node)
    plain.inputs = list(node.inputs)[: -found[0]]
    return plain


def _is_number_as_tensor(argument: torch.Argument, value: Var) -> bool:
    return "Tensor" in str(argument.real_type) and getattr(value, "rank", 1) == 0 and value.val is not None


def _fits(argument: torch.Argument, value: Var) -> bool:
    """Whether a value can be one of an argument's type, as far as tensors, texts and lists are concerned."""
    kind, known = str(argument.real_type), constant(value)
    if any(name in kind for name in ("Device", "Layout", "MemoryFormat")):
        return True  # where and how torch keeps it
    if known is None:
        return "Optional" in kind or kind == "NoneType"
    if isinstance(value, list | tuple):
        return "List" in kind and ("Tensor" in kind or not _has_variable(known))
    if "Tensor" in kind:
        return "List" not in kind and hasattr(value, "rank")
    if _has_variable(known):
        return False
    if isinstance(known, str) or kind == "str":
        return isinstance(known, str) and "str" in kind
    return isinstance(known, list) == ("List" in kind) or "List" in kind


def _has_variable(known: object) -> bool:
    return any(map(_has_variable, known)) if isinstance(known, list | tuple) else hasattr(known, "rank")


def _value(argument: torch.Argument, value: Var) -> object:
    """What torch is given in the place of one argument."""
    from coremltools.converters.mil.frontend.torch.utils import NUM_TO_TORCH_DTYPE

    kind = str(argument.real_type)
    if "Tensor" in kind:
        return [_tensor(each) for each in value] if isinstance(value, list | tuple) else _tensor(value)
    if any(name in kind for name in ("Device", "Layout", "MemoryFormat")):
        return None
    known = constant(value)
    return NUM_TO_TORCH_DTYPE[known] if "ScalarType" in kind and isinstance(known, int) else known


def _tensor(value: Var) -> object:
    """A constant as a tensor; a variable stays one."""
    import numpy as np
    import torch

    if getattr(value, "val", None) is None:
        return value
    return torch.from_numpy(np.array(value.val))
