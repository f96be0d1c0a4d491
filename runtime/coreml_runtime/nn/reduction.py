"""NeuralNetwork layers that reduce, search, sort or accumulate along axes."""

from collections.abc import Callable

import torch
from torch import Tensor

from coreml_runtime.errors import ModelError
from coreml_runtime.nn.layer import Binder, Kernel, Layer

Reduce = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    """Products: torch multiplies along one axis at a time."""
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(dim=axis, keepdim=keep)
    return x


REDUCTIONS: dict[str, Reduce] = {
    "reduceSum": lambda x, axes, keep: x.sum(dim=axes, keepdim=keep),
    "reduceMean": lambda x, axes, keep: x.mean(dim=axes, keepdim=keep),
    "reduceProd": _product,
    "reduceLogSum": lambda x, axes, keep: x.sum(dim=axes, keepdim=keep).log(),
    "reduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, dim=axes, keepdim=keep),
    "reduceSumSquare": lambda x, axes, keep: (x * x).sum(dim=axes, keepdim=keep),
    "reduceL1": lambda x, axes, keep: x.abs().sum(dim=axes, keepdim=keep),
    "reduceL2": lambda x, axes, keep: (x * x).sum(dim=axes, keepdim=keep).sqrt(),
    "reduceMax": lambda x, axes, keep: x.amax(dim=axes, keepdim=keep),
    "reduceMin": lambda x, axes, keep: x.amin(dim=axes, keepdim=keep),
}


def _reduce_nd(name: str) -> Binder:
    """Along the axes given, or all."""
    function = REDUCTIONS[name]

    def bind(layer: Layer) -> Kernel:
        p = layer.parameters
        axes, keep = tuple(int(axis) for axis in p.axes), p.keepDims
        if p.reduceAll or not axes:
            return lambda x: function(x, tuple(range(x.dim())), keep)
        return lambda x: function(x, axes, keep)

    return bind


_AXES = ((-3, -2, -1), (-2, -1), (-3,), (-2,), (-1,))
"""ReduceAxis CHW, HW, C, H, W."""

_MODES = (
    "reduceSum", "reduceMean", "reduceProd", "", "reduceSumSquare", "reduceL1", "reduceL2", "reduceMax", "reduceMin",
)  # fmt: skip
"""ReduceOperation, in the order of its numbers; LOGSUM has a formula of its own."""


def reduce(layer: Layer) -> Kernel:
    """Along C, H, W, HW or CHW; the axes stay with size 1 (ReduceLayerParams)."""
    p = layer.parameters
    axes, epsilon = _AXES[p.axis], p.epsilon or 1e-6
    if p.mode == p.LOGSUM:
        return lambda x: torch.log(x + epsilon).sum(dim=axes, keepdim=True)
    if p.mode == p.ARGMAX:
        if len(axes) != 1:
            raise ModelError(f"layer {layer.name}: argmax needs one axis, not {axes}")
        return lambda x: x.argmax(dim=axes[0], keepdim=True).float()
    function = REDUCTIONS[_MODES[p.mode]]
    return lambda x: function(x, axes, True)


def _arg(function: Callable[..., Tensor]) -> Binder:
    """Indices of extremes; a tensor never drops below rank 1."""

    def bind(layer: Layer) -> Kernel:
        axis, keep = int(layer.parameters.axis), not layer.parameters.removeDim
        return lambda x: function(x, dim=axis, keepdim=keep).float()

    return bind


def top_k(layer: Layer) -> Kernel:
    """The K largest, or smallest, values along an axis in order, and their indices; ties keep their order."""
    p = layer.parameters
    axis, count, largest = int(p.axis), int(p.K), not p.useBottomK

    def run(x: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        k = count if given is None else int(given.item())
        values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
        k = x.shape[axis] if k < 0 else k
        return values.narrow(axis, 0, k), indices.narrow(axis, 0, k).float()

    return run


def arg_sort(layer: Layer) -> Kernel:
    """The indices that sort along an axis; ties keep their order."""
    axis, descending = int(layer.parameters.axis), layer.parameters.descending
    return lambda x: torch.argsort(x, dim=axis, descending=descending, stable=True).float()


def cum_sum(layer: Layer) -> Kernel:
    """Running sums; exclusive and backward on demand; the axis may be the second input."""
    p = layer.parameters
    axis, exclusive, backward = int(p.axis), p.excludeFinalSum, p.reverse

    def run(x: Tensor, given: Tensor | None = None) -> Tensor:
        along = axis if given is None else int(given.item())
        ordered = x.flip(along) if backward else x
        sums = ordered.cumsum(dim=along)
        sums = sums - ordered if exclusive else sums
        return sums.flip(along) if backward else sums

    return run


def one_hot(layer: Layer) -> Kernel:
    """A new axis of `oneHotVectorSize`; an index outside selects nothing."""
    p = layer.parameters
    axis, size, on, off = int(p.axis), int(p.oneHotVectorSize), p.onValue, p.offValue

    def run(x: Tensor, given: Tensor | None = None) -> Tensor:
        depth = size if given is None else int(given.item())
        hot = x.unsqueeze(-1) == torch.arange(depth)
        return torch.where(hot, on, off).movedim(-1, axis)

    return run


def where_non_zero(x: Tensor) -> Tensor:
    """Indices (N, R) of all elements that are not zero."""
    return torch.nonzero(x).float()


def matrix_band_part(layer: Layer) -> Kernel:
    """Zero outside a band around the diagonal of the last two dimensions; a negative width is unlimited."""
    lower, upper = int(layer.parameters.numLower), int(layer.parameters.numUpper)

    def run(x: Tensor) -> Tensor:
        x = x if lower < 0 else torch.triu(x, -lower)
        return x if upper < 0 else torch.tril(x, upper)

    return run


def upper_triangular(layer: Layer) -> Kernel:
    """Zero below diagonal k."""
    k = int(layer.parameters.k)
    return lambda x: torch.triu(x, k)


def lower_triangular(layer: Layer) -> Kernel:
    """Zero above diagonal k."""
    k = int(layer.parameters.k)
    return lambda x: torch.tril(x, k)


LAYERS: dict[str, Binder] = {
    **{name: _reduce_nd(name) for name in REDUCTIONS},
    "reduce": reduce,
    "argMax": _arg(torch.argmax),
    "argMin": _arg(torch.argmin),
    "topK": top_k,
    "argSort": arg_sort,
    "cumSum": cum_sum,
    "oneHot": one_hot,
    "whereNonZero": lambda _: where_non_zero,
    "matrixBandPart": matrix_band_part,
    "upperTriangular": upper_triangular,
    "lowerTriangular": lower_triangular,
}
