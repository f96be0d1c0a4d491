"""Reductions of ONNX, softmax and norms over axes, in which no intermediate value leaves half precision for nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from builder.backends.coreml.lowerings.lowering import Var
from builder.backends.coreml.lowerings.onnx_elementwise import is_float, log, number
from builder.backends.coreml.lowerings.onnx_lowerer import Attributes, Inputs, Lowering, Node, OnnxLowerer

Reduce = Callable[["OnnxLowerer", Var, list[int], bool], Var]


def constant(value: Var, what: str) -> Var:
    """The value of a parameter; raises RuntimeError where only the app decides it."""
    if value.val is None:
        raise RuntimeError(f"{what} must be constant: bake it in with `constant`, if it is an input of the model")
    return value.val


def integers(value: Var, what: str) -> list[int]:
    """A parameter that is a list of integers."""
    import numpy as np

    return [int(number) for number in np.asarray(constant(value, what)).ravel()]


def axes_of(x: Var, inputs: Inputs, attributes: Attributes) -> list[int] | None:
    """The axes, from 0, of an attribute or of the second input; None where there are none to reduce."""
    axes = attributes.get("axes")
    if len(inputs) > 1 and inputs[1] is not None:
        axes = integers(inputs[1], "axes")
    if not axes:
        return None if attributes.get("noop_with_empty_axes", 0) else list(range(x.rank))
    return sorted(int(axis) % max(x.rank, 1) for axis in axes)


def _reduction(reduce: Reduce, lowerer: OnnxLowerer, _node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    x, keep = inputs[0], bool(attributes.get("keepdims", 1))
    axes = axes_of(x, inputs, attributes)
    if any(size == 0 for size in x.shape):
        raise RuntimeError("Core ML has no arrays without elements")
    if x.rank == 0:
        x = lowerer.mb.expand_dims(x=x, axes=[0])
        return [lowerer.mb.squeeze(x=reduce(lowerer, x, [0] if axes is not None else [], True), axes=[0])]
    return [reduce(lowerer, x, [] if axes is None else axes, keep)]


def _plainly(operator: str, lowerer: OnnxLowerer, x: Var, axes: list[int], keep: bool) -> Var:
    return getattr(lowerer.mb, operator)(x=x, axes=axes, keep_dims=keep) if axes else x


def _extreme(operator: str, lowerer: OnnxLowerer, x: Var, axes: list[int], keep: bool) -> Var:
    """Maximum or minimum; of booleans as numbers."""
    if x.dtype != lowerer.types.bool:
        return _plainly(operator, lowerer, x, axes, keep)
    numbers = _plainly(operator, lowerer, lowerer.mb.cast(x=x, dtype="int32"), axes, keep)
    return lowerer.mb.cast(x=numbers, dtype="bool")


def _mean(lowerer: OnnxLowerer, x: Var, axes: list[int], keep: bool) -> Var:
    if not axes:
        return x
    if is_float(lowerer, x):
        return lowerer.mb.reduce_mean(x=x, axes=axes, keep_dims=keep)
    mean = lowerer.mb.reduce_mean(x=lowerer.mb.cast(x=x, dtype="fp32"), axes=axes, keep_dims=keep)
    return lowerer.mb.cast(x=mean, dtype="int32")


def _absolute(lowerer: OnnxLowerer, x: Var, axes: list[int], keep: bool) -> Var:
    return _plainly("reduce_sum", lowerer, lowerer.mb.abs(x=x), axes, keep)


def _squares(lowerer: OnnxLowerer, x: Var, axes: list[int], keep: bool) -> Var:
    return _plainly("reduce_sum", lowerer, lowerer.mb.mul(x=x, y=x), axes, keep)


def _norm(lowerer: OnnxLowerer, x: Var, axes: list[int], keep: bool) -> Var:
    """The square root of the sum of squares, of values divided by the largest: squares beyond 256 overflow a half."""
    mb = lowerer.mb
    if not axes:
        return mb.abs(x=x)
    if not is_float(lowerer, x):
        root = mb.sqrt(x=mb.cast(x=_squares(lowerer, x, axes, keep), dtype="fp32"))
        return mb.cast(x=root, dtype="int32")
    largest = mb.reduce_max(x=mb.abs(x=x), axes=axes, keep_dims=True)
    divisor = mb.select(cond=mb.equal(x=largest, y=number(lowerer, x, 0.0)), a=number(lowerer, x, 1.0), b=largest)
    root = mb.sqrt(x=_squares(lowerer, mb.real_div(x=x, y=divisor), axes, True))
    norm = mb.mul(x=root, y=largest)
    return norm if keep else mb.squeeze(x=norm, axes=axes)


def _logarithm_of_sum(lowerer: OnnxLowerer, x: Var, axes: list[int], keep: bool) -> Var:
    return log(lowerer, _plainly("reduce_sum", lowerer, x, axes, keep))


def _logarithm_of_exponentials(lowerer: OnnxLowerer, x: Var, axes: list[int], keep: bool) -> Var:
    """Max + ln(sum(exp(x - max))); a maximum of -inf is taken for 0, so that -inf comes of it."""
    mb = lowerer.mb
    if not axes:
        return x
    largest, total = _exponentials(lowerer, x, axes)
    result = mb.add(x=largest, y=log(lowerer, total))
    return result if keep else mb.squeeze(x=result, axes=axes)


def _exponentials(lowerer: OnnxLowerer, x: Var, axes: list[int]) -> tuple[Var, Var]:
    """The largest values along the axes, which are finite, and the sum of exp(x - largest)."""
    mb = lowerer.mb
    largest = mb.reduce_max(x=x, axes=axes, keep_dims=True)
    finite = mb.less(x=mb.abs(x=largest), y=number(lowerer, x, float("inf")))
    largest = mb.select(cond=finite, a=largest, b=number(lowerer, x, 0.0))
    return largest, mb.reduce_sum(x=mb.exp(x=mb.sub(x=x, y=largest)), axes=axes, keep_dims=True)


def _over_axis(
    compute: Callable[..., Var],
    lowerer: OnnxLowerer,
    node: Node,
    inputs: Inputs,
    attributes: Attributes,
) -> list[Var]:
    """Along one axis; before opset 13 along all from that axis on, as one."""
    mb, x = lowerer.mb, inputs[0]
    axis = int(attributes.get("axis", -1 if lowerer.opset >= 13 else 1)) % max(x.rank, 1)
    if lowerer.opset >= 13 or axis == x.rank - 1:
        return [compute(lowerer, x, axis, name=lowerer.fresh_name(node))]
    if not all(isinstance(size, int) for size in x.shape):
        raise RuntimeError("before opset 13 it needs fixed sizes: upgrade the file with onnx.version_converter")
    flat = mb.reshape(x=x, shape=[1, *x.shape[:axis], -1])
    return [mb.reshape(x=compute(lowerer, flat, flat.rank - 1), shape=list(x.shape), name=lowerer.fresh_name(node))]


def _softmax(lowerer: OnnxLowerer, x: Var, axis: int, **named: str) -> Var:
    return lowerer.mb.softmax(x=x, axis=axis, **named)


def _log_softmax(lowerer: OnnxLowerer, x: Var, axis: int, **named: str) -> Var:
    """X - max - ln(sum(exp(x - max))), which never takes the logarithm of a probability that is 0."""
    largest, total = _exponentials(lowerer, x, [axis])
    return lowerer.mb.sub(x=lowerer.mb.sub(x=x, y=largest), y=log(lowerer, total), **named)


def _hardmax(lowerer: OnnxLowerer, x: Var, axis: int, **named: str) -> Var:
    """1 at the first of the largest values, 0 elsewhere."""
    mb = lowerer.mb
    first = mb.reduce_argmax(x=x, axis=axis, keep_dims=False)
    depth = x.shape[axis]
    if not isinstance(depth, int):
        raise RuntimeError("Hardmax needs a fixed size along its axis")
    hot = mb.one_hot(indices=first, one_hot_vector_size=depth, axis=axis, on_value=1, off_value=0)
    return mb.cast(x=hot, dtype=lowerer.types.builtin_to_string(x.dtype), **named)


def _argument(operator: str, lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """ArgMax and ArgMin; of equal values the first, as Core ML does, or the last, by turning the axis round."""
    mb, x = lowerer.mb, inputs[0]
    axis, keep = int(attributes.get("axis", 0)) % x.rank, bool(attributes.get("keepdims", 1))
    last = bool(attributes.get("select_last_index", 0))
    x = mb.reverse(x=x, axes=[axis]) if last else x
    index = getattr(mb, operator)(x=x, axis=axis, keep_dims=keep, name=lowerer.fresh_name(node))
    if not last:
        return [index]
    if not isinstance(x.shape[axis], int):
        raise RuntimeError("select_last_index needs a fixed size along the axis")
    return [mb.sub(x=x.shape[axis] - 1, y=index)]


_REDUCTIONS: Mapping[str, Reduce] = {
    "ReduceL1": _absolute,
    "ReduceL2": _norm,
    "ReduceLogSum": _logarithm_of_sum,
    "ReduceLogSumExp": _logarithm_of_exponentials,
    "ReduceMax": partial(_extreme, "reduce_max"),
    "ReduceMean": _mean,
    "ReduceMin": partial(_extreme, "reduce_min"),
    "ReduceProd": partial(_plainly, "reduce_prod"),
    "ReduceSum": partial(_plainly, "reduce_sum"),
    "ReduceSumSquare": _squares,
}

REDUCTIONS: Mapping[str, Lowering] = {
    **{name: partial(_reduction, reduce) for name, reduce in _REDUCTIONS.items()},
    "ArgMax": partial(_argument, "reduce_argmax"),
    "ArgMin": partial(_argument, "reduce_argmin"),
    "Hardmax": partial(_over_axis, _hardmax),
    "LogSoftmax": partial(_over_axis, _log_softmax),
    "Softmax": partial(_over_axis, _softmax),
}
"""By ONNX's name."""
