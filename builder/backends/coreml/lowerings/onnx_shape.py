"""Operators of ONNX that move values without computing: shapes, slices, padding, splitting, triangles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from builder.backends.coreml.lowerings.flexible_sizes import pad_by_sizes
from builder.backends.coreml.lowerings.lowering import Size, Var
from builder.backends.coreml.lowerings.onnx_elementwise import as_numbers, broadcast, number
from builder.backends.coreml.lowerings.onnx_lowerer import Attributes, Inputs, Lowering, Node, OnnxLowerer
from builder.backends.coreml.lowerings.onnx_reduction import constant, integers


def is_fixed(x: Var) -> bool:
    """Whether all sizes of a MIL value are known."""
    return all(isinstance(size, int) for size in x.shape)


def _reshape(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """A reshape in which 0 takes the input's size at the same place, also where the rank changes."""
    x, shape = inputs[0], inputs[1]
    if shape.val is not None and not len(shape.val):
        return [lowerer.mb.squeeze(x=x, name=lowerer.fresh_name(node)) if x.rank else x]
    if shape.val is None and depends_on_values(shape):
        raise RuntimeError("the shape must be constant: bake it in with `constant`, if it is an input of the model")
    if shape.val is not None and not attributes.get("allowzero", 0):
        shape = _without_zeros([int(size) for size in shape.val], list(x.shape))
    if x.dtype == lowerer.types.bool:
        numbers = lowerer.mb.reshape(x=as_numbers(lowerer, x), shape=shape)
        return [lowerer.mb.cast(x=numbers, dtype="bool", name=lowerer.fresh_name(node))]
    return [lowerer.mb.reshape(x=x, shape=shape, name=lowerer.fresh_name(node))]


def depends_on_values(x: Var) -> bool:
    """Whether a value follows from what inputs hold, and not from their sizes alone."""
    if x.val is not None or (x.op is not None and x.op.op_type == "shape"):
        return False
    return x.op is None or any(depends_on_values(value) for value in x.op.get_flattened_inputs())


def _without_zeros(wanted: list[int], sizes: list[Var]) -> list[int]:
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


def _flatten(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """Two dimensions; an axis may count from the end."""
    x = inputs[0]
    axis = int(attributes.get("axis", 1))
    axis = axis + x.rank if axis < 0 else axis
    if x.rank == 0:
        return [lowerer.mb.reshape(x=x, shape=[1, 1], name=lowerer.fresh_name(node))]
    if is_fixed(x) and not 0 < axis < x.rank:
        shape = [math.prod(x.shape[:axis]), math.prod(x.shape[axis:])]
        return _reshape(lowerer, node, [x, lowerer.mb.const(val=shape)], {})
    return [lowerer.mb.flatten2d(x=x, axis=axis, name=lowerer.fresh_name(node))]


def _squeeze(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    x = inputs[0]
    axes = attributes.get("axes")
    if len(inputs) > 1 and inputs[1] is not None:
        axes = integers(inputs[1], "axes")
    if axes is None:
        axes = [index for index, size in enumerate(x.shape) if isinstance(size, int) and size == 1]
    if not axes or not x.rank:
        return [lowerer.mb.identity(x=x, name=lowerer.fresh_name(node))]
    return [lowerer.mb.squeeze(x=x, axes=sorted(axis % x.rank for axis in axes), name=lowerer.fresh_name(node))]


def _unsqueeze(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    x = inputs[0]
    axes = integers(inputs[1], "axes") if len(inputs) > 1 else [int(axis) for axis in attributes["axes"]]
    if not axes:
        return [lowerer.mb.identity(x=x, name=lowerer.fresh_name(node))]
    rank = x.rank + len(axes)
    if rank > 5:
        raise RuntimeError(f"Core ML has arrays of up to 5 dimensions, and this has {rank}")
    return [lowerer.mb.expand_dims(x=x, axes=sorted(axis % rank for axis in axes), name=lowerer.fresh_name(node))]


def _size(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    x = inputs[0]
    if is_fixed(x):
        return [lowerer.mb.const(val=math.prod(x.shape), name=lowerer.fresh_name(node))]
    return [lowerer.mb.reduce_prod(x=lowerer.mb.shape(x=x), axes=[0], keep_dims=False, name=lowerer.fresh_name(node))]


def _shape(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """Bounds count from the end where they are negative, and end at the ends."""
    import numpy as np

    x = inputs[0]
    start, end, _ = slice(attributes.get("start", 0), attributes.get("end")).indices(x.rank)
    sizes = list(x.shape)[start : max(start, end)]
    if all(isinstance(size, int) for size in sizes):
        return [lowerer.make_const(node.output[0], np.array(sizes, dtype=np.int64))]
    every = lowerer.mb.shape(x=x)
    return [lowerer.mb.slice_by_size(x=every, begin=[start], size=[end - start], name=lowerer.fresh_name(node))]


def _expand(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    """A shape that only the app decides is reached by adding zeros of it (MIL has no broadcast of its own)."""
    import numpy as np

    mb, (x, shape) = lowerer.mb, inputs
    if shape.val is not None and is_fixed(x):
        wanted = np.broadcast_shapes(tuple(x.shape), tuple(int(size) for size in shape.val))
        return [mb.identity(x=broadcast(lowerer, x, list(wanted)), name=lowerer.fresh_name(node))]
    is_bool = x.dtype == lowerer.types.bool
    numbers = as_numbers(lowerer, x)
    if shape.val is not None and all(int(size) == 1 for size in shape.val) and len(shape.val) <= x.rank:
        return [mb.identity(x=x, name=lowerer.fresh_name(node))]
    # of a value that is infinite, adding 0 leaves it so
    zeros = mb.fill(shape=shape, value=number(lowerer, numbers, 0))
    expanded = mb.add(x=numbers, y=zeros, name=lowerer.fresh_name(node))
    return [mb.cast(x=expanded, dtype="bool") if is_bool else expanded]


def _split(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """By sizes, or into a number of parts of which the last may be smaller."""
    x = inputs[0]
    axis = int(attributes.get("axis", 0)) % x.rank
    sizes = attributes.get("split")
    if len(inputs) > 1 and inputs[1] is not None:
        sizes = integers(inputs[1], "the sizes of the parts")
    parts = len(node.output)
    if sizes is None and isinstance(x.shape[axis], int):
        each = -(-x.shape[axis] // parts)
        sizes = [max(0, min(each, x.shape[axis] - index * each)) for index in range(parts)]
    if sizes is not None and 0 in list(sizes):
        raise RuntimeError("Core ML has no arrays without elements")
    if parts == 1:
        return [lowerer.mb.identity(x=x, name=lowerer.fresh_name(node))]
    how = {"num_splits": parts} if sizes is None else {"split_sizes": [int(size) for size in sizes]}
    return list(lowerer.mb.split(x=x, axis=axis, name=lowerer.fresh_name(node), **how))


def _triangle(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """Trilu: what is outside of the triangle is replaced by 0, whatever it is, also infinity."""
    import numpy as np

    mb, x = lowerer.mb, inputs[0]
    offset = 0 if len(inputs) < 2 or inputs[1] is None else integers(inputs[1], "k")[0]
    upper = bool(attributes.get("upper", 1))
    numbers = as_numbers(lowerer, x)
    if all(isinstance(size, int) for size in x.shape[-2:]):
        ones = np.ones([1] * (x.rank - 2) + list(x.shape[-2:]), dtype=bool)
        inside = mb.const(val=np.triu(ones, offset) if upper else np.tril(ones, offset))
        if is_fixed(x):
            inside = broadcast(lowerer, inside, list(x.shape))
    else:
        ones = mb.fill(shape=mb.shape(x=x), value=1.0)
        outside = {"lower": -1, "upper": offset - 1} if upper else {"lower": -offset - 1, "upper": -1}
        far = (upper and offset > 0) or (not upper and offset < 0)
        near = {"lower": -offset, "upper": -1} if upper else {"lower": -1, "upper": offset}
        band = mb.band_part(x=ones, **(outside if far else near))
        inside = mb.equal(x=band, y=0.0 if far else 1.0)
    chosen = mb.select(cond=inside, a=numbers, b=number(lowerer, numbers, 0), name=lowerer.fresh_name(node))
    return [mb.cast(x=chosen, dtype="bool") if x.dtype == lowerer.types.bool else chosen]


def _pad(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """Constants by MIL's pad, reflections and the like by a gather along each axis; less than nothing cuts off."""
    import numpy as np

    mb, x = lowerer.mb, inputs[0]
    given = [*inputs, None, None, None][1:4]
    if given[0] is not None and given[0].val is None:
        return _pad_by_sizes(lowerer, node, x, given, attributes.get("mode", "constant"))
    pads = integers(given[0], "pads") if given[0] is not None else [int(size) for size in attributes["pads"]]
    axes = list(range(x.rank)) if given[2] is None else [axis % x.rank for axis in integers(given[2], "axes")]
    before, after = dict.fromkeys(range(x.rank), 0), dict.fromkeys(range(x.rank), 0)
    before |= dict(zip(axes, pads[: len(axes)], strict=True))
    after |= dict(zip(axes, pads[len(axes) :], strict=True))
    mode = attributes.get("mode", "constant")
    numbers = as_numbers(lowerer, x)
    if mode == "constant":
        value = constant(given[1], "the value to pad with") if given[1] is not None else attributes.get("value", 0)
        numbers = _padded(lowerer, _cut(lowerer, numbers, before, after), before, after, np.asarray(value).item())
    else:
        for axis in axes:
            if before[axis] or after[axis]:
                numbers = _extended(lowerer, numbers, axis, (before[axis], after[axis]), mode)
    numbers = mb.identity(x=numbers, name=lowerer.fresh_name(node))
    return [mb.cast(x=numbers, dtype="bool") if x.dtype == lowerer.types.bool else numbers]


_TORCH_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _pad_by_sizes(lowerer: OnnxLowerer, node: Node, x: Var, given: Sequence[Var], mode: str) -> list[Var]:
    """By amounts that follow from sizes; those that are zero whatever the size leave their axes alone."""
    import numpy as np

    mb, numbers = lowerer.mb, as_numbers(lowerer, x)
    axes = list(range(x.rank)) if given[2] is None else [axis % x.rank for axis in integers(given[2], "axes")]
    value = constant(given[1], "the value to pad with") if given[1] is not None else 0

    def amount(place: int) -> Size:
        if _is_zero(given[0], place):
            return 0
        return mb.squeeze(x=mb.slice_by_size(x=given[0], begin=[place], size=[1]), axes=[0])

    pads: list[Size] = [0] * (2 * x.rank)  # torch begins with the last axis
    for place, axis in enumerate(axes):
        first = 2 * (x.rank - 1 - axis)
        pads[first : first + 2] = amount(place), amount(place + len(axes))
    padded = pad_by_sizes(mb, numbers, pads, _TORCH_MODES[mode], 0.0 + np.asarray(value).item())
    padded = mb.identity(x=padded, name=lowerer.fresh_name(node))
    return [mb.cast(x=padded, dtype="bool") if x.dtype == lowerer.types.bool else padded]


def _is_zero(amounts: Var, place: int) -> bool:
    """Whether an entry of (2 N,) is zero whatever the sizes are: joined from constants, or multiplied by zero."""
    import numpy as np

    if amounts.val is not None:
        return bool(np.ravel(amounts.val)[place] == 0)
    op = amounts.op
    if op is not None and op.op_type == "mul":
        factors = [np.broadcast_to(each.val, amounts.shape) for each in (op.x, op.y) if each.val is not None]
        return any(factor[place] == 0 for factor in factors)
    if op is not None and op.op_type == "concat":
        for part in op.values:
            if place < part.shape[0]:
                return _is_zero(part, place)
            place -= part.shape[0]
    return False


def _cut(lowerer: OnnxLowerer, x: Var, before: Mapping[int, int], after: Mapping[int, int]) -> Var:
    """Without what negative amounts cut off."""
    begin = [max(0, -before[axis]) for axis in range(x.rank)]
    end = [min(0, after[axis]) for axis in range(x.rank)]
    if not any(begin) and not any(end):
        return x
    return lowerer.mb.slice_by_index(x=x, begin=begin, end=end, end_mask=[size == 0 for size in end])


def _padded(lowerer: OnnxLowerer, x: Var, before: Mapping[int, int], after: Mapping[int, int], value: float) -> Var:
    """Padded by a constant. Integers by concatenation: MIL pads floats alone, which hold integers to 2^24."""
    mb = lowerer.mb
    amounts = [(max(0, before[axis]), max(0, after[axis])) for axis in range(x.rank)]
    if not any(map(any, amounts)):
        return x
    if x.dtype in (lowerer.types.fp16, lowerer.types.fp32):
        flat = [amount for pair in amounts for amount in pair]
        return mb.pad(x=x, pad=flat, mode="constant", constant_val=number(lowerer, x, value))
    for axis, pair in enumerate(amounts):
        if any(pair):
            parts = [_filled(lowerer, x, axis, amount, int(value)) if amount else None for amount in pair]
            x = mb.concat(values=[part for part in (parts[0], x, parts[1]) if part is not None], axis=axis)
    return x


def _filled(lowerer: OnnxLowerer, x: Var, axis: int, amount: int, value: int) -> Var:
    import numpy as np

    if not is_fixed(x):
        raise RuntimeError("padding integers needs fixed sizes")
    shape = [amount if index == axis else size for index, size in enumerate(x.shape)]
    return lowerer.mb.const(val=np.full(shape, value, dtype=np.int32))


def _extended(lowerer: OnnxLowerer, x: Var, axis: int, amounts: tuple[int, int], mode: str) -> Var:
    """Along one axis, by the places that numpy's pad takes values from."""
    import numpy as np

    size = x.shape[axis]
    ways = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode not in ways:
        raise RuntimeError(f"there is no mode {mode}")
    if not isinstance(size, int):
        if x.rank < 2 or axis < x.rank - 2 or mode == "wrap" or min(amounts) < 0:
            around = [0, 0] * (x.rank - 1 - axis) + list(amounts)
            return pad_by_sizes(lowerer.mb, x, around, _TORCH_MODES[mode], 0.0)
        pads = [0, 0] * axis + list(amounts) + [0, 0] * (x.rank - axis - 1)
        return lowerer.mb.pad(x=x, pad=pads, mode={"reflect": "reflect", "edge": "replicate"}[mode])
    places = np.arange(size)[max(0, -amounts[0]) : size + min(0, amounts[1])]
    places = np.pad(places, [max(0, amount) for amount in amounts], mode=ways[mode])  # type: ignore[call-overload]
    return lowerer.mb.gather(x=x, indices=places.astype(np.int32), axis=axis)


SHAPES: Mapping[str, Lowering] = {
    "Expand": _expand,
    "Flatten": _flatten,
    "Pad": _pad,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Split": _split,
    "Squeeze": _squeeze,
    "Trilu": _triangle,
    "Unsqueeze": _unsqueeze,
}
"""By ONNX's name."""
