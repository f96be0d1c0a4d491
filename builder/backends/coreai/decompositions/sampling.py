"""Values between those of a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import SymInt, Tensor, ops
from torch._decomp import decomposition_table

if TYPE_CHECKING:
    from torch._ops import OpOverload

TORCHS = (
    ops.aten.grid_sampler_2d.default,
    ops.aten.upsample_bicubic2d.vec,
    ops.aten.upsample_linear1d.vec,
    ops.aten._upsample_bicubic2d_aa.vec,
    ops.aten._upsample_bilinear2d_aa.vec,
)


def smooth_resize(
    kernel: Callable[[Tensor], Tensor],
    x: Tensor,
    output_size: Sequence[int],
    align_corners: bool,
    scales_h: float | None = None,
    scales_w: float | None = None,
) -> Tensor:
    """Resizing with antialiasing, (N, C, H, W) to (N, C, *output_size): a product with a matrix for each axis."""
    rows, columns = (
        _resizing(kernel, old, new, align_corners, factor)
        for old, new, factor in zip(x.shape[-2:], output_size, (scales_h, scales_w), strict=True)
    )
    return rows.to(x.dtype) @ (x @ columns.T.to(x.dtype))


def _resizing(
    kernel: Callable[[Tensor], Tensor], old: int, new: int, align_corners: bool, factor: float | None
) -> Tensor:
    """The share of each old place in each new one, (new, old) in float64 (aten/native/cpu/UpSampleKernel.cpp)."""
    corners, steps = (old - 1, new - 1) if align_corners else (old, new)
    scale = 1 / factor if factor and not align_corners else corners / steps if steps else 0.0
    centers = (torch.arange(new, dtype=torch.float64) + 0.5) * scale
    places = torch.arange(old, dtype=torch.float64) + 0.5
    shares = kernel((places - centers.unsqueeze(1)) / max(scale, 1.0))
    return shares / shares.sum(1, keepdim=True)


def _cubic(distance: Tensor) -> Tensor:
    """The cubic convolution kernel with a = -0.5, which torch takes with antialiasing."""
    x = distance.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def _one_open(overload: OpOverload) -> Callable[..., object]:
    """Torch's own decomposition where one of two sizes is a number and the app decides the other.

    coreai-torch takes both from the graph then, and the number is not there.
    """

    def resize(x: Tensor, output_size: Sequence[int | SymInt] | None, *settings: object) -> object:
        if output_size is None or len({isinstance(size, SymInt) for size in output_size}) == 1:
            return NotImplemented
        return decomposition_table[overload](x, output_size, *settings)

    return resize


OURS: dict[OpOverload, Callable[..., object]] = {
    **{each: _one_open(each) for each in (ops.aten.upsample_bilinear2d.vec, ops.aten.upsample_nearest2d.vec)},
    ops.aten._upsample_bicubic2d_aa.default: partial(smooth_resize, _cubic),
    ops.aten._upsample_bilinear2d_aa.default: partial(smooth_resize, _triangle),
}
