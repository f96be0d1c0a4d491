"""NeuralNetwork pools in two and three dimensions."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.nn.layer import Binder, Kernel, Layer, fold, unfold
from coreml_runtime.nn.padding import Padding, Pairs, border_pairs, resolve, torch_order
from coreml_runtime.ops.padding import ceil_after, is_symmetric

_MAX = {2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


def _last_pixel(spatial: tuple[int, ...], p: Padding) -> Pairs:
    """Padding whose last window includes the last pixel (ValidCompletePadding), dropped if it starts in the padding."""
    pairs = []
    for size, kernel, stride, (before, after) in zip(spatial, p.kernel, p.strides, p.pairs, strict=True):
        if before or after:
            extended = ceil_after(size, before, after, kernel, stride)
            pairs.append((before, extended if after + stride <= kernel else max(extended, 0)))
        else:
            pairs.append((before, -(size - kernel) % stride))
    return tuple(pairs)


def _torch_pads(pairs: Pairs, p: Padding) -> bool:
    """Whether torch's pools can do this padding themselves: alike on both sides and at most half the kernel."""
    return is_symmetric(pairs) and all(2 * before <= size for (before, _), size in zip(pairs, p.kernel, strict=True))


def _sum(x: Tensor, p: Padding) -> Tensor:
    """Sums of all windows of an input that is padded already."""
    return _AVERAGE[len(p.kernel)](x, p.kernel, p.strides, divisor_override=1)


def _average(x: Tensor, p: Padding, pairs: Pairs, exclude: bool, inside: Pairs) -> Tensor:
    """Sums over counts; `inside` is the padding that counts as pixels unless `exclude`."""
    total = _sum(functional.pad(x, torch_order(pairs)), p)
    counted = torch.ones(1, 1, *x.shape[2:], dtype=x.dtype)
    if not exclude:
        counted = functional.pad(counted, torch_order(inside), value=1.0)
        rest = [(0, outer[1] - inner[1]) for outer, inner in zip(pairs, inside, strict=True)]
        counted = functional.pad(counted, torch_order(rest))
    else:
        counted = functional.pad(counted, torch_order(pairs))
    return total / _sum(counted, p)


def pool(x: Tensor, kind: str, p: Padding, *, exclude: bool, complete: bool) -> Tensor:
    """Over x (N, C, spatial…); `complete` is "includeLastPixel"."""
    inside = resolve(p, x.shape[2:])
    pairs = _last_pixel(tuple(x.shape[2:]), p) if complete else inside
    if kind == "max":
        if _torch_pads(pairs, p):
            return _MAX[len(p.kernel)](x, p.kernel, p.strides, [pair[0] for pair in pairs])
        return _MAX[len(p.kernel)](functional.pad(x, torch_order(pairs), value=float("-inf")), p.kernel, p.strides)
    if kind == "l2":
        return torch.sqrt(_sum(functional.pad(x * x, torch_order(pairs)), p))
    if is_symmetric(inside) and _torch_pads(pairs, p) and pairs == inside:
        before = [pair[0] for pair in pairs]
        return _AVERAGE[len(p.kernel)](x, p.kernel, p.strides, before, count_include_pad=not exclude)
    clipped = tuple(
        (before, after if after is end else min(after, end))
        for (before, after), (_, end) in zip(inside, pairs, strict=True)
    )
    return _average(x, p, pairs, exclude, clipped)


def _global(x: Tensor, kind: str, axes: tuple[int, ...]) -> Tensor:
    if kind == "max":
        return x.amax(dim=axes, keepdim=True)
    return x.mean(dim=axes, keepdim=True) if kind == "average" else torch.sqrt((x * x).sum(dim=axes, keepdim=True))


def pooling(layer: Layer) -> Kernel:
    """Two-dimensional pool over (…, C, H, W); absent sizes mean kernel 3, stride 1."""
    p = layer.parameters
    kind = {p.MAX: "max", p.AVERAGE: "average", p.L2: "l2"}[p.type]
    if p.globalPooling:
        return lambda x: _global(x, kind, (-2, -1))
    how = p.WhichOneof("PoolingPaddingType")
    padding = Padding(
        kernel=tuple(p.kernelSize) or (3, 3),
        strides=tuple(p.stride) or (1, 1),
        dilations=(1, 1),
        same=how == "same",
        heavy_first=how == "same" and p.same.asymmetryMode == 1,
        pairs=_pairs_of(p, how),
    )
    exclude, complete = p.avgPoolExcludePadding, how == "includeLastPixel"
    return lambda x: unfold(pool(fold(x, 3), kind, padding, exclude=exclude, complete=complete), x, 3)


def _pairs_of(p: Any, how: str | None) -> Pairs:
    if how == "valid":
        return border_pairs(p.valid.paddingAmounts)
    if how == "includeLastPixel":
        return tuple((amount, amount) for amount in p.includeLastPixel.paddingAmounts) or ((0, 0), (0, 0))
    return ((0, 0), (0, 0))


def pooling3d(layer: Layer) -> Kernel:
    """Three-dimensional pool over (N, C, D, H, W)."""
    p = layer.parameters
    kind = "max" if p.type == p.MAX else "average"
    pairs = (
        (p.customPaddingFront, p.customPaddingBack),
        (p.customPaddingTop, p.customPaddingBottom),
        (p.customPaddingLeft, p.customPaddingRight),
    )
    padding = Padding(
        kernel=(p.kernelDepth, p.kernelHeight, p.kernelWidth),
        strides=(p.strideDepth or 1, p.strideHeight or 1, p.strideWidth or 1),
        dilations=(1, 1, 1),
        same=p.paddingType == p.SAME,
        heavy_first=False,
        pairs=pairs if p.paddingType == p.CUSTOM else ((0, 0), (0, 0), (0, 0)),
    )
    exclude = p.countExcludePadding
    return lambda x: pool(x, kind, padding, exclude=exclude, complete=False)


def global_pooling3d(layer: Layer) -> Kernel:
    """All of depth, height and width to one value."""
    kind = "max" if layer.parameters.type == layer.parameters.MAX else "average"
    return lambda x: _global(x, kind, (-3, -2, -1))


LAYERS: dict[str, Binder] = {"pooling": pooling, "pooling3d": pooling3d, "globalPooling3d": global_pooling3d}
