"""Matrix products."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops.table import Kernel, Tensors, fresh, table


@fresh
def linear(*, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (*, D_in), weight (D_out, D_in), bias (D_out,) -> (*, D_out). Mixed types (iOS17 on) are promoted."""
    common = torch.promote_types(x.dtype, weight.dtype)
    if x.dtype is not weight.dtype:
        x, weight, bias = x.to(common), weight.to(common), None if bias is None else bias.to(common)
    if common.is_floating_point:
        return functional.linear(x, weight, bias)
    product = x @ weight.mT
    return product if bias is None else product + bias


@fresh
def matmul(*, x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """x @ y over the last two axes, the others broadcast; a transpose of a vector is the vector."""
    if transpose_x and x.dim() > 1:
        x = x.mT
    if transpose_y and y.dim() > 1:
        y = y.mT
    if x.dtype is not y.dtype:
        common = torch.promote_types(x.dtype, y.dtype)
        x, y = x.to(common), y.to(common)
    return torch.matmul(x, y)


def einsum(*, values: Tensors, equation: str) -> Tensor:
    """Einstein's sum."""
    return torch.einsum(equation, *values)


OPS: dict[str, Kernel] = table(linear, matmul, einsum)
