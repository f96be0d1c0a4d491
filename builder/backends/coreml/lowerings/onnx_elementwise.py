"""Elementwise operators of ONNX: arithmetic, functions of one number, comparisons, choices and casts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce

import numpy as np

from builder.backends.coreml.lowerings.lowering import Var
from builder.backends.coreml.lowerings.onnx_lowerer import Attributes, Inputs, Lowering, Node, OnnxLowerer


def is_float(lowerer: OnnxLowerer, x: Var) -> bool:
    """Whether a MIL value holds floats."""
    return x.dtype in (lowerer.types.fp16, lowerer.types.fp32)


def number(lowerer: OnnxLowerer, x: Var, value: float) -> Var:
    """A number in the dtype of `x`."""
    return lowerer.types.nptype_from_builtin(x.dtype)(value)


def as_numbers(lowerer: OnnxLowerer, x: Var) -> Var:
    """Booleans as int32, which MIL computes with; anything else as it is."""
    return lowerer.mb.cast(x=x, dtype="int32") if x.dtype == lowerer.types.bool else x


def _unary(operator: str, lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    return [getattr(lowerer.mb, operator)(x=inputs[0], name=lowerer.fresh_name(node))]


def _binary(operator: str, lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    return [getattr(lowerer.mb, operator)(x=inputs[0], y=inputs[1], name=lowerer.fresh_name(node))]


def _compared(operator: str, lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    """A comparison; of booleans as numbers."""
    x, y = (as_numbers(lowerer, value) for value in inputs)
    return [getattr(lowerer.mb, operator)(x=x, y=y, name=lowerer.fresh_name(node))]


def _many(operator: str, lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    """An operator of any number of inputs, two at a time."""
    combine = getattr(lowerer.mb, operator)
    if len(inputs) == 1:
        return [lowerer.mb.identity(x=inputs[0], name=lowerer.fresh_name(node))]
    return [reduce(lambda x, y: combine(x=x, y=y, name=lowerer.fresh_name(node)), inputs)]


def _mean(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    (total,) = _many("add", lowerer, node, inputs, attributes)
    y = number(lowerer, total, 1.0 / len(inputs))
    return [lowerer.mb.mul(x=total, y=y, name=lowerer.fresh_name(node, "mean"))]


def _reciprocal(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    return [lowerer.mb.real_div(x=number(lowerer, inputs[0], 1.0), y=inputs[0], name=lowerer.fresh_name(node))]


def _negative(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    return [lowerer.mb.mul(x=inputs[0], y=number(lowerer, inputs[0], -1), name=lowerer.fresh_name(node))]


def _divided(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    """Floats; integers are cut towards zero, where MIL's own division of integers rounds down."""
    mb, (x, y) = lowerer.mb, inputs
    if is_float(lowerer, x):
        return [mb.real_div(x=x, y=y, name=lowerer.fresh_name(node))]
    sign = mb.mul(x=mb.sign(x=x), y=mb.sign(x=y))
    return [mb.mul(x=sign, y=mb.floor_div(x=mb.abs(x=x), y=mb.abs(x=y)), name=lowerer.fresh_name(node))]


def _mod(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """The remainder with the divisor's sign; with `fmod: 1` with the dividend's."""
    mb, (x, y) = lowerer.mb, inputs
    if not attributes.get("fmod", 0):
        return _binary("mod", lowerer, node, inputs, attributes)
    return [mb.mul(x=mb.sign(x=x), y=mb.mod(x=mb.abs(x=x), y=mb.abs(x=y)), name=lowerer.fresh_name(node))]


def _power(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    """The result has the base's dtype; an exponent of another is cast."""
    mb, (x, y) = lowerer.mb, inputs
    if x.dtype == y.dtype:
        return [mb.pow(x=x, y=y, name=lowerer.fresh_name(node))]
    if is_float(lowerer, x):
        y = mb.cast(x=y, dtype=lowerer.types.builtin_to_string(x.dtype))
        return [mb.pow(x=x, y=y, name=lowerer.fresh_name(node))]
    power = mb.pow(x=mb.cast(x=x, dtype="fp32"), y=y)
    return [mb.cast(x=power, dtype="int32", name=lowerer.fresh_name(node))]


def _logarithm(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    """Without MIL's epsilon, by which the logarithm of 0 is -103 and not -inf."""
    return [lowerer.mb.log(x=inputs[0], epsilon=number(lowerer, inputs[0], 0.0), name=lowerer.fresh_name(node))]


def log(lowerer: OnnxLowerer, x: Var) -> Var:
    """ln(x), -inf for 0."""
    return lowerer.mb.log(x=x, epsilon=number(lowerer, x, 0.0))


def softplus(lowerer: OnnxLowerer, x: Var) -> Var:
    """ln(1 + exp(x)) as max(x, 0) + ln(1 + exp(-|x|)), in which nothing overflows."""
    mb = lowerer.mb
    small = mb.exp(x=mb.mul(x=mb.abs(x=x), y=number(lowerer, x, -1.0)))
    return mb.add(x=mb.relu(x=x), y=log(lowerer, mb.add(x=small, y=number(lowerer, x, 1.0))))


def _softplus(lowerer: OnnxLowerer, _node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    return [softplus(lowerer, inputs[0])]


def _mish(lowerer: OnnxLowerer, _node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    return [lowerer.mb.mul(x=inputs[0], y=lowerer.mb.tanh(x=softplus(lowerer, inputs[0])))]


def _asinh(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    """sign(x) * ln(|x| + sqrt(x² + 1)), without squares that overflow: atanh(x / sqrt(1 + x²)) for small x."""
    mb, x = lowerer.mb, inputs[0]
    one = number(lowerer, x, 1.0)
    size = mb.abs(x=x)
    small = mb.minimum(x=size, y=one)
    near = mb.atanh(x=mb.real_div(x=small, y=mb.sqrt(x=mb.add(x=mb.mul(x=small, y=small), y=one))))
    large = mb.maximum(x=size, y=one)
    inverse = mb.real_div(x=one, y=large)
    root = mb.sqrt(x=mb.add(x=mb.mul(x=inverse, y=inverse), y=one))
    far = mb.add(x=log(lowerer, large), y=log(lowerer, mb.add(x=root, y=one)))
    chosen = mb.select(cond=mb.less(x=size, y=one), a=near, b=far)
    return [mb.mul(x=mb.sign(x=x), y=chosen, name=lowerer.fresh_name(node))]


def _acosh(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    """ln(x + sqrt(x² - 1)) as ln(x) + ln(1 + sqrt((1 - 1/x) * (1 + 1/x))): squares would overflow."""
    mb, x = lowerer.mb, inputs[0]
    one = number(lowerer, x, 1.0)
    below = mb.real_div(x=mb.sub(x=x, y=one), y=x)
    above = mb.real_div(x=mb.add(x=x, y=one), y=x)
    root = mb.sqrt(x=mb.mul(x=below, y=above))
    return [mb.add(x=log(lowerer, x), y=log(lowerer, mb.add(x=root, y=one)), name=lowerer.fresh_name(node))]


def _clip(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """Bounds are inputs, constant or not, or attributes; a missing one does not bound."""
    mb, x = lowerer.mb, inputs[0]
    given = [*inputs, None, None]
    low, high = given[1], given[2]
    low = number(lowerer, x, attributes["min"]) if low is None and "min" in attributes else low
    high = number(lowerer, x, attributes["max"]) if high is None and "max" in attributes else high
    bounds = [_number_of(bound) for bound in (low, high)]
    if None not in bounds and bounds[0] <= bounds[1] and is_float(lowerer, x):
        return [mb.clip(x=x, alpha=bounds[0], beta=bounds[1], name=lowerer.fresh_name(node))]
    if low is not None:
        x = mb.maximum(x=x, y=_scalar(low))
    if high is not None:
        x = mb.minimum(x=x, y=_scalar(high))
    return [mb.identity(x=x, name=lowerer.fresh_name(node))]


def _number_of(bound: Var) -> Var:
    """A constant bound as a Python number; None where there is none, or only the app decides it."""
    value = _scalar(bound)
    value = getattr(value, "val", value)
    return None if value is None or np.size(value) != 1 or not np.isfinite(value).all() else float(np.ravel(value)[0])


def _scalar(value: Var) -> Var:
    """A constant array of one element as that number, so that it gives no rank to a result."""
    held = getattr(value, "val", None)
    return held.reshape(-1)[0] if held is not None and getattr(held, "size", 0) == 1 else value


def _where(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    """All three in one shape: Core ML's select on the Neural Engine broadcasts nothing."""
    mb = lowerer.mb
    cond, a, b = inputs
    is_bool = a.dtype == lowerer.types.bool
    a, b = as_numbers(lowerer, a), as_numbers(lowerer, b)
    shapes = [list(value.shape) for value in (cond, a, b)]
    if all(isinstance(size, int) for shape in shapes for size in shape):
        import numpy as np

        shape = list(np.broadcast_shapes(*map(tuple, shapes)))
        cond, a, b = (broadcast(lowerer, value, shape) for value in (cond, a, b))
    chosen = mb.select(cond=cond, a=a, b=b, name=lowerer.fresh_name(node))
    return [mb.cast(x=chosen, dtype="bool") if is_bool else chosen]


def broadcast(lowerer: OnnxLowerer, x: Var, shape: Sequence[int]) -> Var:
    """`x` in a shape that it broadcasts to; both are fixed."""
    mb = lowerer.mb
    missing = len(shape) - x.rank
    if list(x.shape) == list(shape):
        return x
    is_bool = x.dtype == lowerer.types.bool
    x = as_numbers(lowerer, x)
    if missing:
        x = mb.reshape(x=x, shape=[1] * missing + list(x.shape))
    reps = [wanted if size == 1 else 1 for size, wanted in zip(x.shape, shape, strict=True)]
    x = mb.tile(x=x, reps=reps) if set(reps) != {1} else x
    return mb.cast(x=x, dtype="bool") if is_bool else x


def _is_infinite(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    mb, x = lowerer.mb, inputs[0]
    infinity = float("inf")
    both = attributes.get("detect_positive", 1), attributes.get("detect_negative", 1)
    if both == (0, 0):
        return [mb.not_equal(x=mb.mul(x=x, y=number(lowerer, x, 0.0)), y=mb.mul(x=x, y=number(lowerer, x, 0.0)))]
    if both == (1, 1):
        x = mb.abs(x=x)
    sought = number(lowerer, x, infinity if both[0] else -infinity)
    return [mb.equal(x=x, y=sought, name=lowerer.fresh_name(node))]


def _is_nan(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    return [lowerer.mb.not_equal(x=inputs[0], y=inputs[0], name=lowerer.fresh_name(node))]


def _prelu(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    """relu(x) - slope * relu(-x), at every rank."""
    mb, (x, slope) = lowerer.mb, inputs
    zero = number(lowerer, x, 0)
    below = mb.minimum(x=x, y=zero)
    return [mb.add(x=mb.maximum(x=x, y=zero), y=mb.mul(x=below, y=slope), name=lowerer.fresh_name(node))]


_CASTS = {"FLOAT": "fp32", "FLOAT16": "fp16", "DOUBLE": "fp32", "BFLOAT16": "fp32", "BOOL": "bool"}
_CASTS |= dict.fromkeys(("INT8", "UINT8", "INT16", "UINT16", "INT32", "INT64", "UINT32", "UINT64"), "int32")


def _cast(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    import onnx

    name = onnx.TensorProto.DataType.Name(int(attributes["to"]))
    if name not in _CASTS:
        raise RuntimeError(f"Core ML has no {name.lower()}")
    return [_to(lowerer, node, inputs[0], _CASTS[name])]


def _cast_like(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    """A cast to the second input's dtype; definitions of other operators are full of them."""
    name = lowerer.dtype_of(node.input[1])
    if name not in (*_CASTS, "UNDEFINED"):
        raise RuntimeError(f"Core ML has no {name.lower()}")
    return [_to(lowerer, node, inputs[0], lowerer.types.builtin_to_string(inputs[1].dtype))]


def _to(lowerer: OnnxLowerer, node: Node, x: Var, dtype: str) -> Var:
    """Cast to a dtype; a number is true where it is not 0."""
    mb, name = lowerer.mb, lowerer.fresh_name(node)
    if lowerer.types.builtin_to_string(x.dtype) == dtype:
        return mb.identity(x=x, name=name)
    if dtype == "bool" and x.dtype != lowerer.types.bool:
        return mb.not_equal(x=x, y=number(lowerer, x, 0), name=name)
    return mb.cast(x=x, dtype=dtype, name=name)


ELEMENTWISE: Mapping[str, Lowering] = {
    **{name: partial(_unary, operator) for name, operator in {
        "Abs": "abs", "Acos": "acos", "Asin": "asin", "Atan": "atan", "Atanh": "atanh", "Ceil": "ceil", "Cos": "cos",
        "Cosh": "cosh", "Erf": "erf", "Exp": "exp", "Floor": "floor", "Not": "logical_not", "Round": "round",
        "Sigmoid": "sigmoid", "Sign": "sign", "Sin": "sin", "Sinh": "sinh", "Sqrt": "sqrt", "Tan": "tan",
        "Tanh": "tanh", "Identity": "identity",
    }.items()},
    **{name: partial(_many, operator) for name, operator in {"Max": "maximum", "Min": "minimum", "Sum": "add"}.items()},
    **{name: partial(_binary, operator) for name, operator in {
        "Add": "add", "And": "logical_and", "Mul": "mul", "Or": "logical_or", "Sub": "sub", "Xor": "logical_xor",
    }.items()},
    **{name: partial(_compared, operator) for name, operator in {
        "Equal": "equal", "Greater": "greater", "GreaterOrEqual": "greater_equal", "Less": "less",
        "LessOrEqual": "less_equal",
    }.items()},
    "Acosh": _acosh,
    "Asinh": _asinh,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Clip": _clip,
    "Div": _divided,
    "IsInf": _is_infinite,
    "IsNaN": _is_nan,
    "Log": _logarithm,
    "Mean": _mean,
    "Mish": _mish,
    "Mod": _mod,
    "Neg": _negative,
    "PRelu": _prelu,
    "Pow": _power,
    "Reciprocal": _reciprocal,
    "Softplus": _softplus,
    "Where": _where,
}  # fmt: skip
"""By ONNX's name."""
