"""The shipped rewrites; `builder.spec.substitution_kinds` names them."""

from __future__ import annotations

from torch import nn

from builder.model.substitutions import pooling
from builder.model.substitutions.attention import multi_head_attention
from builder.model.substitutions.batch_norm import batch_norm_folding
from builder.model.substitutions.dropout import dropout_removal
from builder.model.substitutions.entry import Entry
from builder.model.substitutions.gelu import gelu_to_sigmoid, gelu_to_tanh, is_exact_gelu
from builder.model.substitutions.linear import linear_to_conv1x1
from builder.model.substitutions.normalization import layer_norm, rms_norm
from builder.model.substitutions.parametrization import parametrization_removal
from builder.model.substitutions.relu6 import relu6_to_clamp, relu6_to_relu
from builder.model.substitutions.swish import hardsigmoid, hardswish, silu
from builder.model.substitutions.upsample import upsample_to_matmul

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

RELU6_TO_RELU = Entry(types=(nn.ReLU6,), exact=False, module=relu6_to_relu)
RELU6_TO_CLAMP = Entry(types=(nn.ReLU6,), exact=True, module=relu6_to_clamp)
HARDSWISH = Entry(types=(nn.Hardswish,), exact=True, module=hardswish)
HARDSIGMOID = Entry(types=(nn.Hardsigmoid,), exact=True, module=hardsigmoid)
SILU = Entry(types=(nn.SiLU,), exact=True, module=silu)
GELU_TO_TANH = Entry(types=_GELUS, exact=False, module=gelu_to_tanh, only=is_exact_gelu)
GELU_TO_SIGMOID = Entry(types=_GELUS, exact=False, module=gelu_to_sigmoid)
ADAPTIVE_TO_FIXED_POOLING = Entry(
    types=(*pooling.AVERAGE, *pooling.MAXIMUM), exact=True, measured=pooling.adaptive_to_fixed_pooling
)
UPSAMPLE_TO_MATMUL = Entry(
    types=(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d), exact=True, measured=upsample_to_matmul
)
BATCH_NORM_FOLDING = Entry(types=(*_BATCH_NORMS, *_FOREIGN_BATCH_NORMS), exact=True, measured=batch_norm_folding)
DROPOUT_REMOVAL = Entry(types=(*_DROPOUTS, *_DROP_PATHS), exact=True, module=dropout_removal)
PARAMETRIZATION_REMOVAL = Entry(types=(nn.Module,), exact=True, tree=parametrization_removal)
LAYER_NORM = Entry(types=(nn.LayerNorm, *_FOREIGN_LAYER_NORMS), exact=True, module=layer_norm)
RMS_NORM = Entry(types=(nn.RMSNorm,), exact=True, module=rms_norm)
MULTI_HEAD_ATTENTION = Entry(types=(nn.MultiheadAttention,), exact=True, module=multi_head_attention)
LINEAR_TO_CONV1X1 = Entry(types=(nn.Linear,), exact=True, module=linear_to_conv1x1)
