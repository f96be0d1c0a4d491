"""Pooling over one to three spatial dimensions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops.padding import Pads, ceil_after, is_symmetric, pad_spatial, spatial_pads
from coreml_runtime.ops.table import Ints, Kernel, exact, fresh, table

_MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def _geometry(
    x: Tensor, kernel: Ints, strides: Ints, pad_type: str, pad: Ints, ceil_mode: bool
) -> tuple[Ints, Pads, Pads]:
    """Strides, padding, and padding plus what ceil mode adds after it (less, where it drops the last window).

    Ceil mode drops a last window that would start in the padding after the input.
    """
    sizes = x.shape[2:]
    strides = strides or (1,) * len(sizes)
    pads = spatial_pads(pad_type, pad, sizes, kernel, strides, (1,) * len(sizes))
    if not ceil_mode:
        return strides, pads, pads
    extended = tuple(
        (before, ceil_after(size, before, after, extent, stride))
        for size, extent, stride, (before, after) in zip(sizes, kernel, strides, pads, strict=True)
    )
    return strides, pads, extended


@exact
@fresh
def max_pool(
    *, x: Tensor, kernel_sizes: Ints, strides: Ints = (), pad_type: str, pad: Ints = (), ceil_mode: bool = False
) -> Tensor:
    """The largest value of each window; padding never wins. x (N, C, *D)."""
    strides, _, extended = _geometry(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    pool = _MAX[len(kernel_sizes)]
    if is_symmetric(extended) and all(
        0 <= 2 * before <= k for (before, _), k in zip(extended, kernel_sizes, strict=True)
    ):
        return pool(x, kernel_sizes, strides, tuple(before for before, _ in extended))
    return pool(pad_spatial(x, extended, -math.inf), kernel_sizes, strides)


@fresh
def avg_pool(
    *, x: Tensor, kernel_sizes: Ints, strides: Ints = (), pad_type: str, pad: Ints = (),
    exclude_padding_from_average: bool = False, ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """The mean of each window. Padding counts unless it is excluded; what ceil mode adds never counts. x (N, C, *D)."""
    strides, pads, extended = _geometry(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    pool = _AVERAGE[len(kernel_sizes)]
    same = is_symmetric(pads) and is_symmetric(extended) and pads == extended
    if same and all(2 * before <= k for (before, _), k in zip(pads, kernel_sizes, strict=True)):
        padding = tuple(before for before, _ in pads)
        return pool(x, kernel_sizes, strides, padding, False, not exclude_padding_from_average)
    average = pool(pad_spatial(x, extended), kernel_sizes, strides)
    counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
    if exclude_padding_from_average:
        return average / pool(pad_spatial(counted, extended), kernel_sizes, strides)
    inside = pad_spatial(counted, pads, 1.0)
    overhang = tuple((0, e - after) for (_, after), (_, e) in zip(pads, extended, strict=True))
    return average / pool(pad_spatial(inside, overhang), kernel_sizes, strides)


def l2_pool(
    *, x: Tensor, kernel_sizes: Ints, strides: Ints = (), pad_type: str, pad: Ints = (), ceil_mode: bool = False
) -> Tensor:
    """The square root of the sum of squares of each window. x (N, C, *D)."""
    strides, _, extended = _geometry(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    means = _AVERAGE[len(kernel_sizes)](pad_spatial(x.square(), extended), kernel_sizes, strides)
    return torch.sqrt(means * math.prod(kernel_sizes))


OPS: dict[str, Kernel] = table(max_pool, avg_pool, l2_pool)
