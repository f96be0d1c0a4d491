"""NeuralNetwork layers that gather, scatter or slice by index."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from coreml_runtime.errors import ModelError
from coreml_runtime.nn.layer import Binder, Kernel, Layer, integers
from coreml_runtime.nn.mil import mil_context
from coreml_runtime.ops import scatter as scatters
from coreml_runtime.ops.context import is_real
from coreml_runtime.ops.open_sizes import open_slice

_MODES = ("update", "add", "sub", "mul", "div", "max", "min")
"""ScatterMode, in the order of its numbers."""


def _wrapped(indices: Tensor, size: int) -> Tensor:
    """Indices as int64 in [0, size): negative ones count from the end."""
    index = indices.long()
    return torch.where(index < 0, index + size, index)


def gather(layer: Layer) -> Kernel:
    """Slices of the first input along `axis`; the indices' shape replaces that axis."""
    axis = int(layer.parameters.axis)

    def run(x: Tensor, indices: Tensor) -> Tensor:
        at = axis % x.dim()
        index = _wrapped(indices, x.shape[at])
        taken = x.index_select(at, index.flatten())
        return taken.reshape(*x.shape[:at], *index.shape, *x.shape[at + 1 :])

    return run


def gather_nd(x: Tensor, indices: Tensor) -> Tensor:
    """The last dimension of the indices names the first coordinates of x."""
    columns = indices.long().unbind(-1)
    return x[tuple(_wrapped(column, size) for column, size in zip(columns, x.shape, strict=False))]


def gather_along_axis(layer: Layer) -> Kernel:
    """numpy.take_along_axis."""
    axis = int(layer.parameters.axis)
    return lambda x, indices: torch.gather(x, axis, _wrapped(indices, x.shape[axis]))


def _scatter(kernel: Callable[..., Tensor], has_axis: bool) -> Binder:
    """MIL's kernel of the same name, up to iOS16: negative indices wrap."""

    def bind(layer: Layer) -> Kernel:
        given: dict[str, object] = {"mode": _MODES[layer.parameters.mode], "context": mil_context(1)}
        if has_axis:
            given["axis"] = int(layer.parameters.axis)
        return lambda x, indices, updates: kernel(data=x, indices=indices.long(), updates=updates, **given)

    return bind


_AXES = (-3, -2, -1)


def slice_axis(layer: Layer) -> Kernel:
    """[start, end) with a positive step on the channel, height or width axis."""
    p = layer.parameters
    start, end, step, axis = int(p.startIndex), int(p.endIndex), int(p.stride) or 1, _AXES[p.axis]

    def run(x: Tensor) -> Tensor:
        cut: list[slice | Tensor] = [slice(None)] * x.dim()
        cut[axis] = slice(start, end, step)
        return x[tuple(cut)]

    return run


def slice_tensor(
    x: Tensor,
    begin: Sequence[int],
    end: Sequence[int],
    strides: Sequence[int],
    begin_mask: Sequence[int],
    end_mask: Sequence[int],
    squeeze_mask: Sequence[int],
) -> Tensor:
    """Slicing as numpy does, negative steps included; a masked end is left open, a squeezed axis is picked out."""
    squeezed = []
    for axis in range(len(begin)):
        size = x.shape[axis]
        if squeeze_mask and squeeze_mask[axis]:
            x = x.narrow(axis, begin[axis] % size, 1)
            squeezed.append(axis)
            continue
        step = (strides[axis] if strides else 1) or 1
        first = None if begin_mask and begin_mask[axis] else begin[axis]
        last = None if end_mask and end_mask[axis] else end[axis]
        x = _take(x, axis, slice(first, last, step))
    return x.squeeze(squeezed) if squeezed else x


def _take(x: Tensor, axis: int, cut: slice) -> Tensor:
    """One axis of numpy's slicing; torch slices forward only."""
    start, stop, step = cut.indices(x.shape[axis])
    if step < 0:
        return x.index_select(axis, torch.tensor(range(start, stop, step), dtype=torch.int64))
    where: list[slice] = [slice(None)] * x.dim()
    where[axis] = slice(start, max(start, stop), step)
    return x[tuple(where)]


def slice_static(layer: Layer) -> Kernel:
    """Everything is a parameter."""
    p = layer.parameters
    arguments = [tuple(int(value) for value in field) for field in (p.beginIds, p.endIds, p.strides)]
    masks = [tuple(int(value) for value in field) for field in (p.beginMasks, p.endMasks, p.squeezeMasks)]
    if not len(arguments[0]) == len(arguments[1]) == len(arguments[2]):
        raise ModelError(f"layer {layer.name}: beginIds, endIds and strides differ in length")
    return lambda x: slice_tensor(x, *arguments, *masks)


def slice_dynamic(layer: Layer) -> Kernel:
    """Begin is the second input; end, strides and the masks are parameters or further inputs, in that order."""
    p = layer.parameters
    fields = (p.endIds, p.strides, p.beginMasks, p.endMasks, p.squeezeMasks)
    fixed = [tuple(int(value) for value in field) for field in fields]

    def run(x: Tensor, begin: Tensor, *given: Tensor) -> Tensor:
        end, strides, begin_mask, end_mask, squeeze_mask = (
            integers(given[index]) if index < len(given) else value for index, value in enumerate(fixed)
        )
        if is_real(begin) and all(map(is_real, given[:1])):
            return slice_tensor(x, integers(begin), end, strides, begin_mask, end_mask, squeeze_mask)
        last = given[0] if given else torch.tensor(end)
        squeezed = [axis for axis, masked in enumerate(squeeze_mask) if masked]
        taken = open_slice(x, begin, last, strides, begin_mask, end_mask, squeezed)
        return taken.squeeze(squeezed) if squeezed else taken

    return run


def slice_by_size(layer: Layer) -> Kernel:
    """`size` elements from the second input on."""
    size, axis = int(layer.parameters.size), int(layer.parameters.axis)

    def run(x: Tensor, begin: Tensor) -> Tensor:
        start = int(begin.item())
        start = start + x.shape[axis] if start < 0 else start
        return x.narrow(axis, start, size)

    return run


LAYERS: dict[str, Binder] = {
    "gather": gather,
    "gatherND": lambda _: gather_nd,
    "gatherAlongAxis": gather_along_axis,
    "scatter": _scatter(scatters.scatter, has_axis=True),
    "scatterND": _scatter(scatters.scatter_nd, has_axis=False),
    "scatterAlongAxis": _scatter(scatters.scatter_along_axis, has_axis=True),
    "slice": slice_axis,
    "sliceStatic": slice_static,
    "sliceDynamic": slice_dynamic,
    "sliceBySize": slice_by_size,
}
