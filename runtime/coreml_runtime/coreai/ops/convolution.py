"""Matrix products, convolutions and pools. Padding is an operator of its own in this dialect."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops import conv
from coreml_runtime.ops.linear import matmul
from coreml_runtime.ops.table import Ints, Kernel, exact, fresh, merge, table


@fresh
def conv2d(*, x: Tensor, weight: Tensor, stride: Ints, dilation: Ints, groups: int) -> Tensor:
    """x (N, C_in, H, W), weight (C_out, C_in / groups, K_h, K_w) -> (N, C_out, H_out, W_out)."""
    return conv.conv(x=x, weight=weight, strides=stride, dilations=dilation, groups=groups)


@fresh
def conv3d(*, x: Tensor, weight: Tensor, stride: Ints, dilation: Ints, groups: int) -> Tensor:
    """x (N, C_in, D, H, W), weight (C_out, C_in / groups, K_d, K_h, K_w)."""
    return conv.conv(x=x, weight=weight, strides=stride, dilations=dilation, groups=groups)


@fresh
def conv_transpose2d(
    *, x: Tensor, weight: Tensor, stride: Ints, padding: Ints, dilation: Ints, output_pad: Ints, groups: int
) -> Tensor:
    """x (N, C_in, H, W), weight (C_in, C_out / groups, K_h, K_w): the gradient of a convolution."""
    return _transposed(x, weight, stride, padding, dilation, output_pad, groups)


@fresh
def conv_transpose3d(
    *, x: Tensor, weight: Tensor, stride: Ints, padding: Ints, dilation: Ints, output_pad: Ints, groups: int
) -> Tensor:
    """x (N, C_in, D, H, W), weight (C_in, C_out / groups, K_d, K_h, K_w)."""
    return _transposed(x, weight, stride, padding, dilation, output_pad, groups)


def _transposed(
    x: Tensor, weight: Tensor, stride: Ints, padding: Ints, dilation: Ints, output_pad: Ints, groups: int
) -> Tensor:
    transpose = {2: functional.conv_transpose2d, 3: functional.conv_transpose3d}[len(stride)]
    return transpose(x, weight, None, stride, padding, output_pad, groups, dilation)


@exact
def max_pool_2d(*, x: Tensor, kernel_size: Ints, stride: Ints, dilation: Ints, ceil_mode: bool) -> Tensor:
    """The largest value of each window. x (N, C, H, W)."""
    return _max_pool(x, kernel_size, stride, dilation, ceil_mode)


@exact
def max_pool_3d(*, x: Tensor, kernel_size: Ints, stride: Ints, dilation: Ints, ceil_mode: bool) -> Tensor:
    """The largest value of each window. x (N, C, D, H, W)."""
    return _max_pool(x, kernel_size, stride, dilation, ceil_mode)


def _max_pool(x: Tensor, kernel_size: Ints, stride: Ints, dilation: Ints, ceil_mode: bool) -> Tensor:
    """Integers are widened: torch has pools of floats only."""
    largest = {2: functional.max_pool2d, 3: functional.max_pool3d}[len(kernel_size)]
    values = x if x.is_floating_point() else x.to(torch.float64)
    return largest(values, kernel_size, stride, 0, dilation, ceil_mode)


def sum_pool_2d(*, x: Tensor, kernel_size: Ints, strides: Ints, dilation: Ints) -> Tensor:
    """The sum of each window. x (N, C, H, W)."""
    return _sum_pool(x, kernel_size, strides, dilation)


def sum_pool_3d(*, x: Tensor, kernel_size: Ints, strides: Ints, dilation: Ints) -> Tensor:
    """The sum of each window. x (N, C, D, H, W)."""
    return _sum_pool(x, kernel_size, strides, dilation)


def _sum_pool(x: Tensor, kernel_size: Ints, strides: Ints, dilation: Ints) -> Tensor:
    """By torch's mean of windows; with a dilation by adding up the shifted input."""
    if x.is_floating_point() and all(each == 1 for each in dilation):
        average = {2: functional.avg_pool2d, 3: functional.avg_pool3d}[len(kernel_size)]
        return average(x, kernel_size, strides, 0, False, True, divisor_override=1)
    windows = x
    for axis, (size, step, gap) in enumerate(zip(kernel_size, strides, dilation, strict=True), start=2):
        extent = gap * (size - 1) + 1
        windows = windows.unfold(axis, extent, step)[..., ::gap]
    return windows.sum(dim=tuple(range(x.dim(), windows.dim())), dtype=x.dtype)


@fresh
def batch_matmul(*, x: Tensor, y: Tensor) -> Tensor:
    """x (*B, M, K) @ y (*B, K, N); leading axes broadcast."""
    return matmul(x=x, y=y)


OPS: dict[str, Kernel] = merge(
    table(conv2d, conv3d, conv_transpose2d, conv_transpose3d, max_pool_2d, max_pool_3d, sum_pool_2d, sum_pool_3d),
    table(batch_matmul),
)
