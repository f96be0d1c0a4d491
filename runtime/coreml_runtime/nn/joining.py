"""NeuralNetwork layers that join, split, pad, crop, reverse or window tensors."""

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.nn.layer import Binder, Kernel, Layer, integers
from coreml_runtime.nn.padding import border_pairs, torch_order


def concat(layer: Layer) -> Kernel:
    """Along the channels, axis -3, or the sequence, axis -5."""
    axis = -5 if layer.parameters.sequenceConcat else -3
    return lambda *values: torch.cat(values, dim=axis)


def concat_nd(layer: Layer) -> Kernel:
    """Along any axis, one after the other or interleaved."""
    axis, interleave = int(layer.parameters.axis), layer.parameters.interleave
    if not interleave:
        return lambda *values: torch.cat(values, dim=axis)

    def run(*values: Tensor) -> Tensor:
        at = axis % values[0].dim()
        return torch.stack(values, dim=at + 1).flatten(at, at + 1)

    return run


def stack(layer: Layer) -> Kernel:
    """Along a new axis."""
    axis = int(layer.parameters.axis)
    return lambda *values: torch.stack(values, dim=axis)


def split(layer: Layer) -> Kernel:
    """Equal parts along axis -3."""
    count = len(layer.outputs)
    return lambda x: torch.split(x, x.shape[-3] // count, dim=-3)


def split_nd(layer: Layer) -> Kernel:
    """Given parts along any axis, or as equal as possible, the first ones larger (numpy.array_split)."""
    p = layer.parameters
    axis, sizes, count = int(p.axis), [int(size) for size in p.splitSizes], int(p.numSplits) or len(layer.outputs)
    if sizes:
        return lambda x: torch.split(x, sizes, dim=axis)
    return lambda x: torch.tensor_split(x, count, dim=axis)


def sequence_repeat(layer: Layer) -> Kernel:
    """Repeats along axis -5."""
    count = layer.parameters.nRepetitions or 1
    return lambda x: torch.cat([x] * count, dim=-5)


def crop(layer: Layer) -> Kernel:
    """Amounts from the edges of (H, W), or the size of a second input at an offset."""
    p = layer.parameters
    (top, bottom), (left, right) = border_pairs(p.cropAmounts)
    if len(layer.inputs) == 2:
        down, across = (int(value) for value in (tuple(p.offset) or (0, 0)))
        return lambda x, like: x[..., down : down + like.shape[-2], across : across + like.shape[-1]]
    return lambda x: x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def padding(layer: Layer) -> Kernel:
    """Constant, reflected or replicated edges of (H, W)."""
    p = layer.parameters
    amounts = torch_order(border_pairs(p.paddingAmounts))
    kind = p.WhichOneof("PaddingType")
    if kind in ("reflection", "replication"):
        mode = "reflect" if kind == "reflection" else "replicate"

        def run(x: Tensor) -> Tensor:
            folded = x.reshape(1, -1, *x.shape[-2:])
            y = functional.pad(folded, amounts, mode=mode)
            return y.reshape(*x.shape[:-2], *y.shape[-2:])

        return run
    value = p.constant.value
    return lambda x: functional.pad(x, amounts, value=value)


def constant_pad(layer: Layer) -> Kernel:
    """Amounts before and after each dimension, as a parameter or the second input; or the size to reach."""
    p = layer.parameters
    fixed, value, to_size = tuple(int(amount) for amount in p.padAmounts), p.value, p.padToGivenOutputSizeMode

    def run(x: Tensor, given: Tensor | None = None) -> Tensor:
        amounts = fixed if given is None else integers(given)
        pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
        if to_size:
            pairs = [
                (max(before - size, 0) if before else 0, max(after - size, 0) if after else 0)
                for size, (before, after) in zip(x.shape, pairs, strict=True)
            ]
        return functional.pad(x, torch_order(pairs), value=value)

    return run


def reverse(layer: Layer) -> Kernel:
    """Flips the dimensions marked."""
    axes = [axis for axis, flip in enumerate(layer.parameters.reverseDim) if flip]
    return lambda x: torch.flip(x, axes)


def reverse_seq(layer: Layer) -> Kernel:
    """Flips the first `lengths[b]` steps of each batch entry b."""
    batch_axis, axis = int(layer.parameters.batchAxis), int(layer.parameters.sequenceAxis)

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        steps = torch.arange(x.shape[axis])
        count = lengths.long().reshape(-1, 1)
        order = torch.where(steps < count, count - 1 - steps, steps.expand(count.shape[0], -1))
        shape = [1] * x.dim()
        shape[batch_axis % x.dim()], shape[axis % x.dim()] = x.shape[batch_axis], x.shape[axis]
        order = order if batch_axis % x.dim() < axis % x.dim() else order.t()
        return torch.gather(x, axis, order.reshape(shape).expand(x.shape))

    return run


def sliding_windows(layer: Layer) -> Kernel:
    """All windows along `axis`; the window is a new dimension after it."""
    p = layer.parameters
    axis, size, step = int(p.axis), int(p.windowSize), int(p.step)

    def run(x: Tensor) -> Tensor:
        at = axis % x.dim()
        return x.unfold(at, size, step).movedim(-1, at + 1)

    return run


LAYERS: dict[str, Binder] = {
    "concat": concat,
    "concatND": concat_nd,
    "stack": stack,
    "split": split,
    "splitND": split_nd,
    "sequenceRepeat": sequence_repeat,
    "crop": crop,
    "padding": padding,
    "constantPad": constant_pad,
    "reverse": reverse,
    "reverseSeq": reverse_seq,
    "slidingWindows": sliding_windows,
}
