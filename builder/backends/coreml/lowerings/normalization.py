"""Normalisation by the root of the mean square, which coremltools computes with another epsilon."""

from __future__ import annotations

import math
from collections.abc import Sequence

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var, Wrong
from builder.backends.coreml.lowerings.variables import promoted

_SINGLE = 1.1920929e-07
"""torch.finfo(torch.float32).eps, torch's epsilon where none is given."""


def rms_norm(
    mb: Builder, x: Var, normalized_shape: Sequence[int], weight: Var | None = None, eps: float | None = None
) -> Var:
    """`weight * x / sqrt(mean(x ** 2) + eps)` over the last axes.

    Everything is divided by the greatest magnitude first, epsilon too, so that no square leaves half precision: with
    `m = max(|x|, sqrt(eps))` that is `x / m / sqrt(mean((x / m) ** 2) + (sqrt(eps) / m) ** 2)`.
    """
    axes = list(range(-len(normalized_shape), 0))
    root = math.sqrt(_SINGLE if eps is None else eps)
    x, least = promoted(x, root)
    largest = mb.maximum(x=mb.reduce_max(x=mb.abs(x=x), axes=axes, keep_dims=True), y=least)
    scaled, share = mb.real_div(x=x, y=largest), mb.real_div(x=least, y=largest)
    mean = mb.reduce_mean(x=mb.mul(x=scaled, y=scaled), axes=axes, keep_dims=True)
    result = mb.real_div(x=scaled, y=mb.sqrt(x=mb.add(x=mean, y=mb.mul(x=share, y=share))))
    if weight is None:
        return result
    result, weight = promoted(result, weight)
    return mb.mul(x=result, y=weight)


NORMALIZATION = (
    Lowering(
        operator="rms_norm",
        lower=rms_norm,
        wrong=Wrong(issue=2821, said="multiplies epsilon by the square of the largest value, and makes NaN of zeros"),
    ),
)
