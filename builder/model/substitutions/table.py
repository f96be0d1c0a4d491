"""Every shipped rewrite by its name: what it applies to, whether it is exact, and the function that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from builder.errors import ConversionError
from builder.model.substitutions import pooling
from builder.model.substitutions.attention import multi_head_attention
from builder.model.substitutions.batch_norm import batch_norm_folding
from builder.model.substitutions.dropout import dropout_removal
from builder.model.substitutions.gelu import gelu_to_sigmoid, gelu_to_tanh, is_exact_gelu
from builder.model.substitutions.linear import linear_to_conv1x1
from builder.model.substitutions.normalization import layer_norm, rms_norm
from builder.model.substitutions.parametrization import parametrization_removal
from builder.model.substitutions.relu6 import relu6_to_clamp, relu6_to_relu
from builder.model.substitutions.rewrite import Matches, rewrite
from builder.model.substitutions.shapes import Run
from builder.model.substitutions.swish import hardsigmoid, hardswish, silu
from builder.model.substitutions.upsample import upsample_to_matmul
from builder.model.substitutions.user import import_module_type, is_of_type
from builder.spec.substitutions import ShippedRewrite

Rewritten = tuple[nn.Module, tuple[str, ...]]
Type = type[nn.Module] | str
"""A module type; one of a library that need not be installed as `package.module:Name`, where it is defined."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A shipped rewrite: one of `module`, `tree` and `measured` does it, and its docstring describes it."""

    types: tuple[Type, ...]
    exact: bool
    module: Callable[[Any], nn.Module] | None = None
    """Makes a new module of an old one."""
    tree: Callable[..., Rewritten] | None = None
    """Takes the root, `matches`, the patterns."""
    measured: Callable[..., Rewritten] | None = None
    """Takes the root, `matches`, the patterns, and what runs the examples."""
    only: Callable[[nn.Module], bool] = lambda _: True
    """Which modules of the types."""

    @property
    def function(self) -> Callable[..., Any]:
        """The one function that does it."""
        (function,) = [f for f in (self.module, self.tree, self.measured) if f is not None]
        return function

    def apply(self, root: nn.Module, given: ShippedRewrite, run: Run, *, key: str) -> Rewritten:
        """Return a rewritten copy of `root`, and the paths of what was replaced."""
        matches = _matches(self, given, key=key)
        if self.module is not None:
            return rewrite(root, matches, given.modules, self.module)
        if self.tree is not None:
            return self.tree(root, matches, given.modules)
        assert self.measured is not None
        return self.measured(root, matches, given.modules, run)


_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_DROP_PATHS = ("torchvision.ops.stochastic_depth:StochasticDepth", "timm.layers.drop:DropPath")
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_FOREIGN_BATCH_NORMS = ("torchvision.ops.misc:FrozenBatchNorm2d", "timm.layers.norm_act:BatchNormAct2d")
_FOREIGN_LAYER_NORMS = (
    "torchvision.models.convnext:LayerNorm2d",
    "timm.layers.norm:LayerNorm",
    "timm.layers.norm:LayerNorm2d",
)
_GELUS = (nn.GELU, "transformers.activations:GELUActivation")

REWRITES: Mapping[str, Entry] = {
    "relu6_to_relu": Entry(types=(nn.ReLU6,), exact=False, module=relu6_to_relu),
    "relu6_to_clamp": Entry(types=(nn.ReLU6,), exact=True, module=relu6_to_clamp),
    "hardswish": Entry(types=(nn.Hardswish,), exact=True, module=hardswish),
    "hardsigmoid": Entry(types=(nn.Hardsigmoid,), exact=True, module=hardsigmoid),
    "silu": Entry(types=(nn.SiLU,), exact=True, module=silu),
    "gelu_to_tanh": Entry(types=_GELUS, exact=False, module=gelu_to_tanh, only=is_exact_gelu),
    "gelu_to_sigmoid": Entry(types=_GELUS, exact=False, module=gelu_to_sigmoid),
    "adaptive_to_fixed_pooling": Entry(
        types=(*pooling.AVERAGE, *pooling.MAXIMUM), exact=True, measured=pooling.adaptive_to_fixed_pooling
    ),
    "upsample_to_matmul": Entry(
        types=(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d), exact=True, measured=upsample_to_matmul
    ),
    "batch_norm_folding": Entry(types=(*_BATCH_NORMS, *_FOREIGN_BATCH_NORMS), exact=True, measured=batch_norm_folding),
    "dropout_removal": Entry(types=(*_DROPOUTS, *_DROP_PATHS), exact=True, module=dropout_removal),
    "parametrization_removal": Entry(types=(nn.Module,), exact=True, tree=parametrization_removal),
    "layer_norm": Entry(types=(nn.LayerNorm, *_FOREIGN_LAYER_NORMS), exact=True, module=layer_norm),
    "rms_norm": Entry(types=(nn.RMSNorm,), exact=True, module=rms_norm),
    "multi_head_attention": Entry(types=(nn.MultiheadAttention,), exact=True, module=multi_head_attention),
    "linear_to_conv1x1": Entry(types=(nn.Linear,), exact=True, module=linear_to_conv1x1),
}


def _matches(entry: Entry, given: ShippedRewrite, *, key: str) -> Matches:
    if given.type is None:
        return lambda m: _is_one_of(parametrize.type_before_parametrizations(m), entry.types) and entry.only(m)
    wanted = import_module_type(given.type, key=f"{key}.type")
    if not any(_is_one_of(base, entry.types) for base in wanted.__mro__):
        raise ConversionError(
            f"{given.kind} applies to {', '.join(name_of(t) for t in entry.types)}, and {given.type} is none of them",
            code="B0407",
            key=f"{key}.type",
        )
    return lambda m: is_of_type(m, wanted) and entry.only(m)


def _is_one_of(kind: type, types: tuple[Type, ...]) -> bool:
    if types == (torch.nn.Module,):
        return True
    return kind in types or f"{kind.__module__}:{kind.__qualname__}" in types


def name_of(kind: Type) -> str:
    """Return how a recipe writes a type."""
    if isinstance(kind, str):
        return kind
    return f"torch.nn:{kind.__name__}"
