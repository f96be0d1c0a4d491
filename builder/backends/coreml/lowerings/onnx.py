"""ONNX operators that onnxsim cannot convert to MIL yet: one function each, as its own are.

Each takes onnxsim's lowerer (`lowerer.mb` builds operators), the node, its inputs as MIL variables (None where one is
left out) and its attributes, and returns one variable for each output. Delete one when onnxsim has it (0.8.1 does not).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

from builder.backends.coreml.lowerings.onnx_control import CONTROL
from builder.backends.coreml.lowerings.onnx_recurrent import RECURRENT

Lowering = Callable[[Any, Any, Sequence[Any], Mapping[str, Any]], list[Any]]


def _unary(operator: str, lowerer: Any, node: Any, inputs: Sequence[Any], _: Mapping[str, Any]) -> list[Any]:
    return [getattr(lowerer.mb, operator)(x=inputs[0], name=lowerer.fresh_name(node))]


def _many(operator: str, lowerer: Any, node: Any, inputs: Sequence[Any], _: Mapping[str, Any]) -> list[Any]:
    """An operator of any number of inputs, two at a time."""
    combine = getattr(lowerer.mb, operator)
    return [reduce(lambda x, y: combine(x=x, y=y, name=lowerer.fresh_name(node)), inputs)]


def _binary(operator: str, lowerer: Any, node: Any, inputs: Sequence[Any], _: Mapping[str, Any]) -> list[Any]:
    return [getattr(lowerer.mb, operator)(x=inputs[0], y=inputs[1], name=lowerer.fresh_name(node))]


def _mean(lowerer: Any, node: Any, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> list[Any]:
    (total,) = _many("add", lowerer, node, inputs, attributes)
    return [lowerer.mb.mul(x=total, y=1.0 / len(inputs), name=lowerer.fresh_name(node, "mean"))]


def _index(operator: str, lowerer: Any, node: Any, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> list[Any]:
    """ArgMax and ArgMin; of equal values ONNX takes the first, as Core ML does."""
    if attributes.get("select_last_index", 0):
        raise RuntimeError(f"{node.op_type} with select_last_index has no counterpart in Core ML")
    return [
        getattr(lowerer.mb, operator)(
            x=inputs[0],
            axis=int(attributes.get("axis", 0)),
            keep_dims=bool(attributes.get("keepdims", 1)),
            name=lowerer.fresh_name(node),
        )
    ]


def _reciprocal(lowerer: Any, node: Any, inputs: Sequence[Any], _: Mapping[str, Any]) -> list[Any]:
    return [lowerer.mb.real_div(x=1.0, y=inputs[0], name=lowerer.fresh_name(node))]


def _cast_like(lowerer: Any, node: Any, inputs: Sequence[Any], _: Mapping[str, Any]) -> list[Any]:
    """A cast to the second input's dtype; definitions of other operators are full of them."""
    if inputs[0].dtype == inputs[1].dtype:
        return [lowerer.mb.identity(x=inputs[0], name=lowerer.fresh_name(node))]
    dtype = lowerer.types.builtin_to_string(inputs[1].dtype)
    return [lowerer.mb.cast(x=inputs[0], dtype=dtype, name=lowerer.fresh_name(node))]


def _dropout(lowerer: Any, node: Any, inputs: Sequence[Any], _: Mapping[str, Any]) -> list[Any]:
    """Nothing: it drops only while a model is trained."""
    return [lowerer.mb.identity(x=inputs[0], name=lowerer.fresh_name(node))]


def _mod(lowerer: Any, node: Any, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> list[Any]:
    """The remainder with the divisor's sign; `fmod: 1` (the dividend's sign) differs for negative values."""
    if attributes.get("fmod", 0):
        raise RuntimeError("Mod with fmod has no counterpart in Core ML")
    return _binary("mod", lowerer, node, inputs, attributes)


def _cumulative_sum(lowerer: Any, node: Any, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> list[Any]:
    return [
        lowerer.mb.cumsum(
            x=inputs[0],
            axis=int(inputs[1].val),
            exclusive=bool(attributes.get("exclusive", 0)),
            reverse=bool(attributes.get("reverse", 0)),
            name=lowerer.fresh_name(node),
        )
    ]


def _gather_elements(lowerer: Any, node: Any, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> list[Any]:
    axis = int(attributes.get("axis", 0))
    x, indices = inputs[0], inputs[1]
    return [lowerer.mb.gather_along_axis(x=x, indices=indices, axis=axis, name=lowerer.fresh_name(node))]


def _triangle(lowerer: Any, node: Any, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> list[Any]:
    """Trilu with a constant offset: the upper or the lower triangle, zeros elsewhere."""
    offset = 0 if len(inputs) < 2 or inputs[1] is None else int(inputs[1].val)
    upper = bool(attributes.get("upper", 1))
    if (upper and offset > 0) or (not upper and offset < 0):  # what band_part cannot keep alone: take the rest away
        rest = {"lower": -1, "upper": offset - 1} if upper else {"lower": -offset - 1, "upper": -1}
        other = lowerer.mb.band_part(x=inputs[0], **rest, name=lowerer.fresh_name(node, "rest"))
        return [lowerer.mb.sub(x=inputs[0], y=other, name=lowerer.fresh_name(node))]
    kept = {"lower": -offset, "upper": -1} if upper else {"lower": -1, "upper": offset}
    return [lowerer.mb.band_part(x=inputs[0], **kept, name=lowerer.fresh_name(node))]


def _reshape(lowerer: Any, node: Any, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> list[Any]:
    """A reshape in which 0 takes the input's size at the same place, also where the rank changes."""
    x, shape = inputs[0], inputs[1]
    if shape.val is not None and not attributes.get("allowzero", 0):
        shape = _without_zeros([int(size) for size in shape.val], list(x.shape))
    return [lowerer.mb.reshape(x=x, shape=shape, name=lowerer.fresh_name(node))]


def _without_zeros(wanted: list[int], sizes: list[Any]) -> list[int]:
    """The shape with sizes for zeros; the one that the app chooses becomes the -1, and what was -1 is worked out."""
    copied = [sizes[index] if size == 0 else size for index, size in enumerate(wanted)]
    chosen = [index for index, size in enumerate(copied) if not isinstance(size, int)]
    others = [size for size in sizes if isinstance(size, int)]
    if not chosen:
        return copied
    if len(chosen) > 1 or len(others) < len(sizes) - 1:
        return wanted
    known = math.prod(size for index, size in enumerate(copied) if index not in chosen and size != -1)
    rest = math.prod(others) // known
    return [-1 if index in chosen else rest if size == -1 else size for index, size in enumerate(copied)]


ONNX_OPERATORS: Mapping[str, Lowering] = {
    **{name: partial(_unary, operator) for name, operator in {
        "Acos": "acos", "Asin": "asin", "Atan": "atan", "Atanh": "atanh", "Ceil": "ceil", "Cosh": "cosh",
        "Sign": "sign", "Sinh": "sinh", "Tan": "tan",
    }.items()},
    **{name: partial(_many, operator) for name, operator in {"Max": "maximum", "Min": "minimum", "Sum": "add"}.items()},
    **{name: partial(_binary, operator) for name, operator in {"Or": "logical_or", "Xor": "logical_xor"}.items()},
    "ArgMax": partial(_index, "reduce_argmax"),
    "ArgMin": partial(_index, "reduce_argmin"),
    "CastLike": _cast_like,
    "CumSum": _cumulative_sum,
    "Dropout": _dropout,
    "GatherElements": _gather_elements,
    "Mean": _mean,
    "Mod": _mod,
    "Reciprocal": _reciprocal,
    "Trilu": _triangle,
    **CONTROL,
    **RECURRENT,
}  # fmt: skip
"""By ONNX's name."""

MENDED_OPERATORS: Mapping[str, Lowering] = {"Reshape": _reshape}
"""What onnxsim converts, but not in every case."""
