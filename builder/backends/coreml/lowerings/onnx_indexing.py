"""Operators of ONNX that take by index, and those that make arrays: gather, scatter, top-k, ranges, one-hot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from builder.backends.coreml.lowerings.lowering import Var
from builder.backends.coreml.lowerings.onnx_elementwise import as_numbers, number
from builder.backends.coreml.lowerings.onnx_lowerer import Attributes, Inputs, Lowering, Node, OnnxLowerer
from builder.backends.coreml.lowerings.onnx_reduction import constant, integers
from builder.backends.coreml.lowerings.onnx_shape import depends_on_values, is_fixed

_MODES = {"none": "update", "add": "add", "mul": "mul", "max": "max", "min": "min"}


def _again(lowerer: OnnxLowerer, node: Node, x: Var, result: Var) -> list[Var]:
    """The result in the dtype of `x`, where that was boolean and was computed as numbers."""
    if x.dtype == lowerer.types.bool:
        return [lowerer.mb.cast(x=result, dtype="bool", name=lowerer.fresh_name(node))]
    return [result]


def _gather(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    x, indices = inputs
    axis = int(attributes.get("axis", 0)) % x.rank
    return _again(lowerer, node, x, lowerer.mb.gather(x=as_numbers(lowerer, x), indices=indices, axis=axis))


def _gather_elements(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """Of arrays that are larger than the indices along other axes, their beginning."""
    mb, (x, indices) = lowerer.mb, inputs
    axis = int(attributes.get("axis", 0)) % x.rank
    numbers = as_numbers(lowerer, x)
    if is_fixed(x) and is_fixed(indices):
        sizes = [x.shape[i] if i == axis else indices.shape[i] for i in range(x.rank)]
        if sizes != list(x.shape):
            numbers = mb.slice_by_size(x=numbers, begin=[0] * x.rank, size=sizes)
    return _again(lowerer, node, x, mb.gather_along_axis(x=numbers, indices=indices, axis=axis))


def _gather_nd(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    x, indices = inputs
    batch = int(attributes.get("batch_dims", 0))
    how = {"batch_dims": batch} if batch else {}
    return _again(lowerer, node, x, lowerer.mb.gather_nd(x=as_numbers(lowerer, x), indices=indices, **how))


def _from_start(lowerer: OnnxLowerer, indices: Var, size: object) -> Var:
    """Indices from 0, of such that may count from the end; `size` may be one for each of the last axis."""
    import numpy as np

    values = indices.val
    if values is not None and np.min(values, initial=0) >= 0:
        return indices
    known = getattr(size, "val", size)
    if values is not None and known is not None:
        return np.where(np.asarray(values) < 0, np.asarray(values) + known, values).astype(np.int32)
    mb = lowerer.mb
    return mb.select(cond=mb.less(x=indices, y=0), a=mb.add(x=indices, y=size), b=indices)


def _sizes(lowerer: OnnxLowerer, x: Var, axes: Sequence[int]) -> object:
    """The sizes of these axes, one for each; a number where there is one axis."""
    import numpy as np

    if all(isinstance(x.shape[axis], int) for axis in axes):
        sizes = np.array([x.shape[axis] for axis in axes], np.int32)
        return int(sizes[0]) if len(axes) == 1 else sizes
    return lowerer.mb.gather(x=lowerer.mb.shape(x=x), indices=np.array(axes, np.int32), axis=0)


def _scatter_elements(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    x, indices, updates = inputs
    axis = int(attributes.get("axis", 0)) % x.rank
    x, updates = as_numbers(lowerer, x), as_numbers(lowerer, updates)
    mode = _MODES[attributes.get("reduction", "none")]
    places = _from_start(lowerer, indices, _sizes(lowerer, x, [axis]))
    written = lowerer.mb.scatter_along_axis(data=x, indices=places, updates=updates, axis=axis, mode=mode)
    return _again(lowerer, node, inputs[0], written)


def _scatter_nd(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    x, indices, updates = inputs
    x, updates = as_numbers(lowerer, x), as_numbers(lowerer, updates)
    mode = _MODES[attributes.get("reduction", "none")]
    places = _from_start(lowerer, indices, _sizes(lowerer, x, range(int(indices.shape[-1]))))
    return _again(lowerer, node, inputs[0], lowerer.mb.scatter_nd(data=x, indices=places, updates=updates, mode=mode))


def _top(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """In order, which satisfies `sorted: 0` too; the smallest for `largest: 0`."""
    x = inputs[0]
    count = integers(inputs[1], "k")[0] if len(inputs) > 1 else int(attributes["k"])
    ascending = not attributes.get("largest", 1)
    axis = int(attributes.get("axis", -1)) % x.rank
    return list(lowerer.mb.topk(x=x, k=count, axis=axis, ascending=ascending, name=lowerer.fresh_name(node)))


def _one_hot(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """Equality with 0, 1, …: indices from -depth on count from the end, others give the value of off everywhere."""
    import numpy as np

    mb, (indices, depth, values) = lowerer.mb, inputs
    size = int(np.asarray(constant(depth, "the depth")).ravel()[0])
    off, on = np.asarray(constant(values, "the values for off and on")).ravel()
    if indices.dtype != lowerer.types.int32:
        indices = mb.cast(x=indices, dtype="int32")
    axis = int(attributes.get("axis", -1)) % (indices.rank + 1)
    from_end = mb.select(cond=mb.less(x=indices, y=0), a=mb.add(x=indices, y=size), b=indices)
    places = np.arange(size, dtype=np.int32).reshape([-1 if i == axis else 1 for i in range(indices.rank + 1)])
    hot = mb.cast(x=mb.equal(x=mb.expand_dims(x=from_end, axes=[axis]), y=places), dtype="int32")
    if values.dtype != lowerer.types.int32:
        hot = mb.cast(x=hot, dtype=lowerer.types.builtin_to_string(as_numbers(lowerer, values).dtype))
    off, on = (number(lowerer, hot, float(value)) for value in (off, on))
    result = mb.add(x=mb.mul(x=hot, y=on - off), y=off)
    return _again(lowerer, node, values, result)


def _range(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    import numpy as np

    start, end, step = inputs
    if all(value.val is not None for value in inputs):
        values = np.arange(*(np.asarray(value.val).item() for value in inputs))
        dtype = np.float32 if start.dtype != lowerer.types.int32 else np.int32
        if not values.size:
            raise RuntimeError("Core ML has no arrays without elements")
        return [lowerer.make_const(node.output[0], values.astype(dtype))]
    if any(depends_on_values(value) for value in inputs):
        raise RuntimeError("the size of its result depends on values, and Core ML's sizes do not")
    return [lowerer.mb.range_1d(start=start, end=end, step=step, name=lowerer.fresh_name(node))]


def _identity_matrix(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    import numpy as np
    import onnx

    x = inputs[0]
    if not is_fixed(x):
        raise RuntimeError("EyeLike needs a fixed size")
    dtype = lowerer.types.nptype_from_builtin(x.dtype)
    if "dtype" in attributes:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(int(attributes["dtype"]))
    rows, columns = x.shape
    matrix = np.eye(rows, columns, k=int(attributes.get("k", 0))).astype(dtype)
    return [lowerer.make_const(node.output[0], matrix)]


def _cumulative(operator: str, lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """Sums, forwards or from the end, with or without the value itself."""
    x = inputs[0]
    axis = integers(inputs[1], "the axis")[0] % x.rank
    return [
        getattr(lowerer.mb, operator)(
            x=x,
            axis=axis,
            exclusive=bool(attributes.get("exclusive", 0)),
            reverse=bool(attributes.get("reverse", 0)),
            name=lowerer.fresh_name(node),
        )
    ]


def _compress(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """With a constant condition; else the size of the result depends on values, which Core ML does not have."""
    import numpy as np

    x = inputs[0]
    kept = np.flatnonzero(np.asarray(constant(inputs[1], "the condition"))).astype(np.int32)
    if "axis" not in attributes:
        x = lowerer.mb.reshape(x=x, shape=[-1])
    axis = int(attributes.get("axis", 0)) % x.rank
    return _gather(lowerer, node, [x, lowerer.mb.const(val=kept)], {"axis": axis})


def _reverse_sequence(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """The first `length` values of each sequence turned round: a gather by places."""
    import numpy as np

    mb, (x, lengths) = lowerer.mb, inputs
    time, batch = int(attributes.get("time_axis", 0)), int(attributes.get("batch_axis", 1))
    if not is_fixed(x):
        raise RuntimeError("ReverseSequence needs fixed sizes")
    steps = np.arange(x.shape[time], dtype=np.int32)[None]
    column = mb.expand_dims(x=lengths, axes=[1])
    turned = mb.sub(x=mb.sub(x=column, y=1), y=steps)
    inside = mb.cast(x=mb.less(x=mb.const(val=steps), y=column), dtype="int32")
    outside = mb.sub(x=1, y=inside)
    places = mb.add(x=mb.mul(x=turned, y=inside), y=mb.mul(x=mb.const(val=steps), y=outside))  # (batch, time)
    if time < batch:
        places = mb.transpose(x=places, perm=[1, 0])
    shape = [x.shape[i] if i in (time, batch) else 1 for i in range(x.rank)]
    reps = [1 if i in (time, batch) else x.shape[i] for i in range(x.rank)]
    spread = mb.tile(x=mb.reshape(x=places, shape=shape), reps=reps)
    taken = mb.gather_along_axis(x=as_numbers(lowerer, x), indices=spread, axis=time)
    return _again(lowerer, node, x, taken)


def _tile(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    x = inputs[0]
    reps = integers(inputs[1], "the repeats")
    return _again(lowerer, node, x, lowerer.mb.tile(x=as_numbers(lowerer, x), reps=reps))


def _no_counterpart(why: str, lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:  # noqa: ARG001 - a Lowering
    raise RuntimeError(why)


_BY_VALUES = partial(_no_counterpart, "the size of its result depends on values, and Core ML's sizes do not")
_RANDOM = partial(_no_counterpart, "it draws random numbers, with which no artifact can be compared")

INDEXING: Mapping[str, Lowering] = {
    "Bernoulli": _RANDOM,
    "Compress": _compress,
    "CumSum": partial(_cumulative, "cumsum"),
    "EyeLike": _identity_matrix,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Multinomial": _RANDOM,
    "NonMaxSuppression": _BY_VALUES,
    "NonZero": _BY_VALUES,
    "OneHot": _one_hot,
    "RandomNormal": _RANDOM,
    "RandomNormalLike": _RANDOM,
    "RandomUniform": _RANDOM,
    "RandomUniformLike": _RANDOM,
    "Range": _range,
    "ReverseSequence": _reverse_sequence,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Tile": _tile,
    "TopK": _top,
    "Unique": _BY_VALUES,
}
"""By ONNX's name."""
