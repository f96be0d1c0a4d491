"""Batch norm folded into the layer before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from builder.model.substitutions.consumers import consumers_on
from builder.model.substitutions.rewrite import Matches, copy_module, find, refuse_hooks, rewrite_in_place
from builder.model.substitutions.shapes import Run

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def batch_norm_folding(
    root: nn.Module, matches: Matches, patterns: Sequence[str] | None, run: Run
) -> tuple[nn.Module, tuple[str, ...]]:
    """Fold batch norm into the convolution or linear layer before it, wherever nothing else uses what that returns.

    Which layers follow each other is seen on the examples, so it does not matter how the model is written. A batch
    norm that follows something else, or that normalises by the batch itself, stays; `modules` are paths of batch norms.

    Given: `batch_norm(conv(x, W, b))` with statistics m, v.

    Result: `conv(x, W * s, (b - m) * s + beta)`, with `s = gamma / sqrt(v + eps)`, and identity, or the activation that
    the batch norm of timm contains.
    """
    new = copy_module(root)
    norms = {id(module): (path, module) for path, module in find(new, matches, patterns) if _is_fixed(module)}
    layers = {id(m): (path, m) for path, m in new.named_modules() if _is_layer(m)}
    if not norms or not layers:
        return new, ()
    pairs = consumers_on(new, [m for _, m in layers.values()], [m for _, m in norms.values()], run)
    pairs = [(layer, norm) for layer, norm in pairs if _fits(layer, norm)]
    for layer, norm in pairs:
        refuse_hooks(layer, layers[id(layer)][0])
        refuse_hooks(norm, norms[id(norm)][0])
    for layer, norm in pairs:
        _fold(layer, norm)
    folded = {id(norm) for _, norm in pairs}
    return rewrite_in_place(new, lambda m: id(m) in folded, None, _what_is_left)


def _is_layer(module: nn.Module) -> bool:
    return parametrize.type_before_parametrizations(module) in (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)


def _is_fixed(module: nn.Module) -> bool:
    """Whether it normalises by statistics of its own; without them it takes those of the batch."""
    return isinstance(getattr(module, "running_var", None), torch.Tensor)


def _what_is_left(norm: nn.Module) -> nn.Module:
    """Nothing; timm's BatchNormAct2d drops and activates after it normalises."""
    parts = [part for name in ("drop", "act") if isinstance(part := getattr(norm, name, None), nn.Module)]
    return nn.Sequential(*parts) if parts else nn.Identity()


def _fits(layer: nn.Module, norm: Any) -> bool:
    features = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return bool(features == norm.running_mean.numel())


@torch.no_grad()
def _fold(layer: Any, norm: Any) -> None:
    """Scale the layer's outputs, computed in double precision and rounded once."""
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    scale = torch.rsqrt(variance + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    old_bias = torch.zeros_like(mean) if layer.bias is None else layer.bias.double()
    bias = (old_bias - mean) * scale
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    weight = layer.weight
    layer.weight = nn.Parameter(
        (weight.double() * _over_outputs(layer, scale)).to(weight.dtype), requires_grad=weight.requires_grad
    )
    layer.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=weight.requires_grad)


def _over_outputs(layer: Any, scale: torch.Tensor) -> torch.Tensor:
    """The scale (out) as it multiplies weights: (out, in / groups, ...), or (in, out / groups, ...) if transposed."""
    dims = layer.weight.dim()
    if not isinstance(layer, TRANSPOSED):
        return scale.view(-1, *(1,) * (dims - 1))
    by_group = scale.view(layer.groups, 1, -1).expand(-1, layer.weight.shape[0] // layer.groups, -1)
    return by_group.reshape(layer.weight.shape[0], -1, *(1,) * (dims - 2))
