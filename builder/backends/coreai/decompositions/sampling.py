"""Values between those of a grid."""

from __future__ import annotations

from torch import ops

TORCHS = (ops.aten.grid_sampler_2d.default, ops.aten.upsample_bicubic2d.vec, ops.aten.upsample_linear1d.vec)
