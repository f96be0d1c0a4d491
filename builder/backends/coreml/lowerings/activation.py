"""Activations that coremltools computes for pictures alone."""

from __future__ import annotations

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import is_constant, promoted


def prelu(mb: Builder, x: Var, weight: Var) -> Var:
    """`max(x, 0) + weight * min(x, 0)` of any rank, with a slope for each channel, which is axis 1.

    Given:   prelu(x (N, C), a (C))
    Result:  relu(x) - a * relu(-x)
    """
    slopes = mb.reshape(x=weight, shape=[1, -1, *[1] * (x.rank - 2)]) if x.rank > 2 else weight
    below, slopes = promoted(mb.relu(x=mb.mul(x=x, y=-1.0)), slopes)
    return mb.sub(x=mb.relu(x=x), y=mb.mul(x=below, y=slopes))


def _is_no_picture(x: Var, weight: Var) -> bool:
    """Whether slopes differ by channel, in a rank of which coremltools wants them alike."""
    alike = is_constant(weight) and (weight.val == weight.val.flat[0]).all()
    return x.rank != 4 and not alike


ACTIVATION = (
    Lowering(
        operator="prelu", lower=prelu, upstream_gap="slopes by channel unless the rank is 4", applies=_is_no_picture
    ),
)
