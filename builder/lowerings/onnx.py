"""ONNX operators that onnxsim cannot convert to MIL yet: one function each, as its own are.

Each takes onnxsim's lowerer (`lowerer.mb` builds operators), the node, its inputs as MIL variables (None where one is
left out) and its attributes, and returns one variable for each output. Delete one when onnxsim has it (0.8.1 does not).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

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


def _lstm(lowerer: Any, node: Any, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> list[Any]:
    """LSTM with constant weights: ONNX orders its gates i, o, f, c and Core ML i, f, o, c; biases are added up.

    X (S, B, I) gives Y (S, D, B, H), Y_h and Y_c (D, B, H), with D directions.
    """
    direction = attributes.get("direction", "forward")
    others = {"activations": None, "clip": None, "input_forget": 0, "layout": 0}
    for name, plain in others.items():
        if attributes.get(name, plain) != plain and not _are_usual(name, attributes[name]):
            raise RuntimeError(f"an LSTM with {name} {attributes[name]} is not converted")
    if direction == "reverse" or any(given is not None for given in [*inputs[4:5], *inputs[7:8]]):
        raise RuntimeError("an LSTM that runs backwards alone, has sequence lengths or peepholes is not converted")
    weights, recurrent = (_in_order(given.val, axis=1) for given in inputs[1:3])
    directions, hidden = recurrent.shape[0], recurrent.shape[2]
    bias = _bias(inputs, directions, hidden)
    arguments = {"weight_ih": weights[0], "weight_hh": recurrent[0], "bias": bias[0]}
    if directions == 2:
        arguments |= {"weight_ih_back": weights[1], "weight_hh_back": recurrent[1], "bias_back": bias[1]}
    mb, x = lowerer.mb, inputs[0]
    initial = [
        _state(lowerer, node, given, x.shape[1], directions * hidden) for given in (*inputs[5:7], None, None)[:2]
    ]
    y, h, c = mb.lstm(
        x=x,
        initial_h=initial[0],
        initial_c=initial[1],
        direction="bidirectional" if directions == 2 else "forward",
        output_sequence=True,
        name=lowerer.fresh_name(node, "lstm"),
        **arguments,
    )

    def split(value: Any, lead: int) -> Any:
        """(…, B, D * H) to (…, D, B, H)."""
        shape = [*x.shape[:lead], x.shape[1], directions, hidden]
        parts = mb.reshape(x=value, shape=shape, name=lowerer.fresh_name(node, "parts"))
        order = [*range(lead), lead + 1, lead, lead + 2]
        return mb.transpose(x=parts, perm=order, name=lowerer.fresh_name(node, "directions"))

    return [split(y, 1), split(h, 0), split(c, 0)]


def _reshape(lowerer: Any, node: Any, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> list[Any]:
    """A reshape in which 0 takes the input's size at the same place, also where the rank changes."""
    x, shape = inputs[0], inputs[1]
    if shape.val is not None and not attributes.get("allowzero", 0):
        wanted = [int(size) for size in shape.val]
        zeros = [index for index, size in enumerate(wanted) if size == 0]
        if all(isinstance(x.shape[index], int) for index in zeros):
            shape = [x.shape[index] if size == 0 else size for index, size in enumerate(wanted)]
    return [lowerer.mb.reshape(x=x, shape=shape, name=lowerer.fresh_name(node))]


def _are_usual(name: str, value: Any) -> bool:
    return name == "activations" and [str(v) for v in value] == ["Sigmoid", "Tanh", "Tanh"] * (len(value) // 3)


def _in_order(gates: Any, axis: int) -> Any:
    """Weights or biases with their gates i, o, f, c as i, f, o, c."""
    import numpy as np

    i, o, f, c = np.split(np.asarray(gates), 4, axis=axis)
    return np.concatenate([i, f, o, c], axis=axis)


def _bias(inputs: Sequence[Any], directions: int, hidden: int) -> Any:
    """The sum of both biases, (D, 4H); zeros where there is none."""
    import numpy as np

    if len(inputs) < 4 or inputs[3] is None:
        return np.zeros((directions, 4 * hidden), dtype=np.float32)
    of_input, of_state = np.split(np.asarray(inputs[3].val), 2, axis=1)
    return _in_order(of_input + of_state, axis=1)


def _state(lowerer: Any, node: Any, given: Any, batch: int, size: int) -> Any:
    """An initial state (D, B, H) as Core ML takes it, (B, D * H); zeros where there is none."""
    import numpy as np

    if given is None:
        return np.zeros((batch, size), dtype=np.float32)
    moved = lowerer.mb.transpose(x=given, perm=[1, 0, 2], name=lowerer.fresh_name(node, "state"))
    return lowerer.mb.reshape(x=moved, shape=[batch, size], name=lowerer.fresh_name(node, "state"))


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
    "LSTM": _lstm,
    "Mean": _mean,
    "Mod": _mod,
    "Reciprocal": _reciprocal,
    "Trilu": _triangle,
}  # fmt: skip
"""By ONNX's name."""

MENDED_OPERATORS: Mapping[str, Lowering] = {"Reshape": _reshape}
"""What onnxsim converts, but not in every case."""
