"""NeuralNetwork layers that change the shape or order of their input, or make a tensor of a shape."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.errors import ModelError
from coreml_runtime.nn.layer import Binder, Kernel, Layer, fold, integers
from coreml_runtime.ops.context import is_real
from coreml_runtime.ops.open_sizes import counted, hold, reshaped


def flatten(layer: Layer) -> Kernel:
    """(…, C, H, W) to (…, C * H * W, 1, 1), in that order or with the channels last."""
    if layer.parameters.mode == layer.parameters.CHANNEL_LAST:
        return lambda x: x.movedim(-3, -1).reshape(*x.shape[:-3], -1, 1, 1)
    return lambda x: x.reshape(*x.shape[:-3], -1, 1, 1)


def reshape(layer: Layer) -> Kernel:
    """Rank 5 to rank 5; three target sizes keep the sequence, four replace it (ReshapeLayerParams)."""
    p = layer.parameters
    target, last = tuple(int(size) for size in p.targetShape), p.mode == p.CHANNEL_LAST
    if len(target) not in (3, 4):
        raise ModelError(f"layer {layer.name}: reshape to {len(target)} dimensions; 3 or 4 are possible")

    def run(x: Tensor) -> Tensor:
        batch = x.shape[1] if x.dim() == 5 else 1
        lead = (x.shape[0] if x.dim() == 5 else 1, batch) if len(target) == 3 else (target[0], batch)
        channels, height, width = target[-3:]
        if not last:
            return x.reshape(*lead, channels, height, width)
        return x.movedim(-3, -1).reshape(*lead, height, width, channels).movedim(-1, -3)

    return run


def permute(layer: Layer) -> Kernel:
    """`axis` orders (Seq, C, H, W); the batch, axis 1 of rank 5, stays."""
    axes = tuple(int(axis) for axis in layer.parameters.axis) or (0, 1, 2, 3)
    if sorted(axes) != [0, 1, 2, 3]:
        raise ModelError(f"layer {layer.name}: permute axes {list(axes)} are not a permutation of 0 to 3")
    order = [axis if axis == 0 else axis + 1 for axis in axes]
    order.insert(1, 1)
    return lambda x: x.permute(order if x.dim() == 5 else axes)


def transpose(layer: Layer) -> Kernel:
    """A permutation of all dimensions; leading ones that it leaves out stay (make_image_input writes 3 for rank 4)."""
    axes = tuple(int(axis) for axis in layer.parameters.axes)

    def run(x: Tensor) -> Tensor:
        extra = x.dim() - len(axes)
        return x.permute(axes) if extra <= 0 else x.permute(*range(extra), *(axis + extra for axis in axes))

    return run


def reorganize_data(layer: Layer) -> Kernel:
    """Space to depth, depth to space, and pixel shuffle over (…, C, H, W) (ReorganizeDataLayerParams)."""
    p = layer.parameters
    block, mode = int(p.blockSize), p.mode
    if block < 1:
        raise ModelError(f"layer {layer.name}: block size {block}; it must be positive")

    def run(x: Tensor) -> Tensor:
        lead, (channels, height, width) = x.shape[:-3], x.shape[-3:]
        y = fold(x, 3)
        if mode == p.PIXEL_SHUFFLE:
            y = functional.pixel_shuffle(y, block)
        elif mode == p.SPACE_TO_DEPTH:
            y = y.reshape(-1, channels, height // block, block, width // block, block).permute(0, 3, 5, 1, 2, 4)
            y = y.reshape(-1, channels * block * block, height // block, width // block)
        else:
            deep = channels // (block * block)
            y = y.reshape(-1, block, block, deep, height, width).permute(0, 3, 4, 1, 5, 2)
            y = y.reshape(-1, deep, height * block, width * block)
        return y.reshape(*lead, *y.shape[1:])

    return run


def expand_dims(layer: Layer) -> Kernel:
    """The axes are those of the output."""
    axes = tuple(int(axis) for axis in layer.parameters.axes)

    def run(x: Tensor) -> Tensor:
        rank = x.dim() + len(axes)
        for axis in sorted(axis % rank for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return run


def squeeze(layer: Layer) -> Kernel:
    """The axes given, or all of size 1; a tensor never drops below rank 1."""
    axes = None if layer.parameters.squeezeAll else tuple(int(axis) for axis in layer.parameters.axes)
    return lambda x: torch.squeeze(x) if axes is None else torch.squeeze(x, dim=axes)


def flatten_to_2d(layer: Layer) -> Kernel:
    """The dimensions before `axis`, and those from it on."""
    axis = int(layer.parameters.axis)

    def run(x: Tensor) -> Tensor:
        at = axis if axis >= 0 else axis + x.dim()
        first = 1
        for size in x.shape[:at]:
            first *= size
        return x.reshape(first, x.numel() // max(first, 1))

    return run


def rank_preserving_reshape(layer: Layer) -> Kernel:
    """0 keeps the dimension of the input, -1 is worked out."""
    target = tuple(int(size) for size in layer.parameters.targetShape)
    return lambda x: x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(target)])


def reshape_static(layer: Layer) -> Kernel:
    """To the shape given."""
    target = tuple(int(size) for size in layer.parameters.targetShape)
    return lambda x: x.reshape(target)


def reshape_dynamic(x: Tensor, shape: Tensor) -> Tensor:
    """To the shape that the second input holds."""
    return x.reshape(integers(shape)) if is_real(shape) else reshaped(x, shape, copies=False)


def _widen(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Give x broadcast to `shape`, where a target of 1 keeps what x has."""
    shape = (1,) * (x.dim() - len(shape)) + tuple(shape)
    own = (1,) * (len(shape) - x.dim()) + tuple(x.shape)
    return x.expand([_wider(mine, target) for mine, target in zip(own, shape, strict=True)])


def _wider(own: int, target: object) -> Any:
    """The size that `own` gets: only 1 becomes another. A target that is a symbol must be 1 or `own` then."""
    if not isinstance(target, torch.SymInt):
        return own if target == 1 else target
    if own == 1:
        return target
    hold((target - 1) * (target - own) == 0)
    return own


def broadcast_to_static(layer: Layer) -> Kernel:
    """To the shape given."""
    target = tuple(int(size) for size in layer.parameters.targetShape)
    return lambda x: _widen(x, target)


def fill_like(layer: Layer) -> Kernel:
    """The shape of the input, filled."""
    value = layer.parameters.value
    return lambda x: torch.full(x.shape, value)


def fill_static(layer: Layer) -> Kernel:
    """The shape given, filled."""
    value, shape = layer.parameters.value, tuple(int(size) for size in layer.parameters.targetShape)
    return lambda: torch.full(shape, value)


def fill_dynamic(layer: Layer) -> Kernel:
    """The shape that the input holds, filled."""
    value = layer.parameters.value
    return lambda shape: torch.full(integers(shape), value)


def load_constant(layer: Layer) -> Kernel:
    """(C, H, W) as rank 5."""
    p = layer.parameters
    value = layer.weights(p.data, tuple(int(size) for size in p.shape)).reshape(1, 1, *p.shape)
    return lambda: value


def load_constant_nd(layer: Layer) -> Kernel:
    """Any rank."""
    value = layer.weights(layer.parameters.data, tuple(int(size) for size in layer.parameters.shape))
    return lambda: value


def range_static(layer: Layer) -> Kernel:
    """numpy.arange(start, end, step)."""
    p = layer.parameters
    value = torch.arange(p.startValue, p.endValue, p.stepSizeValue)
    return lambda: value


def range_dynamic(layer: Layer) -> Kernel:
    """The inputs are end, start and step; start and step may be parameters."""
    start, step = layer.parameters.startValue, layer.parameters.stepSizeValue

    def run(end: Tensor, *rest: Tensor) -> Tensor:
        if not all(map(is_real, (end, *rest))):
            given = (rest[0] if rest else torch.tensor(start), rest[1] if len(rest) > 1 else torch.tensor(step))
            return counted(given[0], end, given[1])
        first = rest[0].item() if rest else start
        stride = rest[1].item() if len(rest) > 1 else step
        return torch.arange(first, end.item(), stride, dtype=torch.float32)

    return run


def get_shape(x: Tensor) -> Tensor:
    """A vector of the dimensions."""
    return torch.tensor(x.shape, dtype=torch.float32)


def tile(layer: Layer) -> Kernel:
    """Repeats along each dimension; fewer repeats than dimensions count for the last ones."""
    repeats = tuple(int(count) for count in layer.parameters.reps)
    if len(layer.inputs) == 2:
        return lambda x, counts: torch.tile(x, integers(counts))
    return lambda x: torch.tile(x, repeats)


def copy(_: Layer) -> Kernel:
    """The value itself: no layer writes into its inputs, so it can be shared."""
    return lambda x: x


LAYERS: dict[str, Binder] = {
    "flatten": flatten,
    "reshape": reshape,
    "permute": permute,
    "transpose": transpose,
    "reorganizeData": reorganize_data,
    "expandDims": expand_dims,
    "squeeze": squeeze,
    "flattenTo2D": flatten_to_2d,
    "rankPreservingReshape": rank_preserving_reshape,
    "reshapeStatic": reshape_static,
    "reshapeDynamic": lambda _: reshape_dynamic,
    "reshapeLike": lambda _: lambda x, like: x.reshape(like.shape),
    "broadcastToStatic": broadcast_to_static,
    "broadcastToDynamic": lambda _: lambda x, shape: _widen(x, integers(shape)),
    "broadcastToLike": lambda _: lambda x, like: _widen(x, like.shape),
    "fillLike": fill_like,
    "fillStatic": fill_static,
    "fillDynamic": fill_dynamic,
    "loadConstant": load_constant,
    "loadConstantND": load_constant_nd,
    "rangeStatic": range_static,
    "rangeDynamic": range_dynamic,
    "getShape": lambda _: get_shape,
    "tile": tile,
    "copy": copy,
}
