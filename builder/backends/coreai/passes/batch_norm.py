"""Batch norm folded in float64 before anything is cast: Apple's fold in half precision loses 18 dB on MobileNetV2."""

from __future__ import annotations

import operator

import torch
from torch import ops
from torch.fx import Node

from builder.backends.coreai.passes.edit import Edit

_NORM = ops.aten._native_batch_norm_legit_no_training.default
_CONVOLUTION = ops.aten.convolution.default


def fold_batch_norm(edit: Edit) -> int:
    """Fold each batch norm into the convolution before it, or leave a product and a sum; returns how many.

    Given:   batch_norm(convolution(x, w, b), gamma, beta, mean, var)
    Result:  convolution(x, w * s, (b - mean) * s + beta), where s = gamma / sqrt(var + eps)
    """
    count = 0
    for node in edit.calls(_NORM):
        factors = _factors(edit, node)
        if factors is None or any(user.target is not operator.getitem or user.args[1] != 0 for user in node.users):
            continue
        scale, shift = factors
        before = node.args[0]
        assert isinstance(before, Node)
        result = _folded(edit, before, scale, shift) or _applied(edit, node, before, scale, shift)
        for user in list(node.users):
            user.replace_all_uses_with(result)
        count += 1
    edit.finish()
    return count


def _factors(edit: Edit, node: Node) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Factor and summand of each channel, float64; None where statistics are computed."""
    gamma, beta, mean, var = (edit.value(each) for each in node.args[1:5])
    computed = [value is None and arg is not None for value, arg in zip((gamma, beta), node.args[1:3], strict=True)]
    if mean is None or var is None or any(computed):
        return None
    scale = torch.rsqrt(var.double() + float(node.args[6]))  # type: ignore[arg-type]
    scale = scale if gamma is None else scale * gamma.double()
    shift = -mean.double() * scale
    return scale, shift if beta is None else shift + beta.double()


def _folded(edit: Edit, conv: Node, scale: torch.Tensor, shift: torch.Tensor) -> Node | None:
    """The convolution with other weights; None where it is none, others use it, or its weights are computed."""
    if conv.op != "call_function" or conv.target is not _CONVOLUTION or len(conv.users) != 1:
        return None
    weight, bias = edit.value(conv.args[1]), edit.value(conv.args[2])
    if weight is None or (bias is None) != (conv.args[2] is None):
        return None
    transposed, groups = conv.args[6], conv.args[8]
    assert isinstance(transposed, bool), "a schema of aten"
    assert isinstance(groups, int), "a schema of aten"
    new_weight = _scaled(weight.double(), scale, transposed=transposed, groups=groups)
    new_bias = shift if bias is None else bias.double() * scale + shift
    weight_node = edit.with_value(_node(conv.args[1]), new_weight.to(weight.dtype), conv.name)
    if conv.args[2] is None:
        path = edit.path(weight_node)
        bias_node = edit.constant(f"{path.removesuffix('weight')}bias", new_bias.to(weight.dtype))
    else:
        bias_node = edit.with_value(_node(conv.args[2]), new_bias.to(weight.dtype), conv.name)
    conv.args = (conv.args[0], weight_node, bias_node, *conv.args[3:])
    edit.infer(conv)
    return conv


def _scaled(weight: torch.Tensor, scale: torch.Tensor, *, transposed: bool, groups: int) -> torch.Tensor:
    """Weights (out, in / groups, …), or (in, out / groups, …) if transposed, times a factor for each out."""
    if not transposed:
        return weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    return (grouped * scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))).reshape(weight.shape)


def _applied(edit: Edit, node: Node, x: Node, scale: torch.Tensor, shift: torch.Tensor) -> Node:
    """A product and a sum for each channel of (N, C, …)."""
    shape = (1, -1, *[1] * (x.meta["val"].ndim - 2))
    path = edit.path(_node(node.args[3])).removesuffix("running_mean")
    factor = edit.constant(f"{path}scale", scale.float().reshape(shape))
    summand = edit.constant(f"{path}shift", shift.float().reshape(shape))
    return edit.before(node, ops.aten.add.Tensor, edit.before(node, ops.aten.mul.Tensor, x, factor), summand)


def _node(value: object) -> Node:
    assert isinstance(value, Node), "what has a value is a node"
    return value
