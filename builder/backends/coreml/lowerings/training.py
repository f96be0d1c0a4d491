"""What belongs to training and stands in models all the same: dropout, losses, limited norms."""

from __future__ import annotations

import math

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, UpstreamBug, Var
from builder.backends.coreml.lowerings.variables import as_float, promoted, selected, zeros_like

_LEAST = 2.0**-14
"""The least normal number of half precision: what rows of zeros are divided by."""
_NONE, _MEAN = 0, 1
"""torch's numbers of reductions; 2 is the sum."""


def dropout(mb: Builder, x: Var, p: float, train: bool | None) -> Var:
    """X itself, or zeros where everything is dropped. Raises NotImplementedError where chance decides."""
    if not train or p == 0:
        return mb.identity(x=x)
    if p == 1:
        return zeros_like(mb, x)
    raise NotImplementedError(
        "dropout with training=True draws random numbers in a model that is evaluated too: "
        "pass `training=self.training`"
    )


def native_dropout(mb: Builder, x: Var, p: float, train: bool | None) -> tuple[Var | None, ...]:
    """What exported programs call it; the mask serves training alone."""
    return dropout(mb, x, p, train), None


def _drops(p: float, train: bool | None) -> bool:
    return bool(train) and p != 0


def cosine_embedding_loss(
    mb: Builder, x: Var, other: Var, target: Var, margin: float = 0.0, reduction: int = _MEAN
) -> Var:
    """`1 - cos` where the target is 1, `max(cos - margin, 0)` where it is -1, with torch's 1e-12 under the root.

    Rows are divided by their greatest magnitude m first, `1e-12` by m² too, so that no square leaves half precision.
    """
    (x, small), (other, little) = (_divided(mb, as_float(each)) for each in (x, other))
    square, other_square = (
        mb.add(x=mb.reduce_sum(x=mb.mul(x=each, y=each), axes=[-1]), y=mb.mul(x=least, y=least))
        for each, least in ((x, small), (other, little))
    )
    product = mb.reduce_sum(x=mb.mul(x=x, y=other), axes=[-1])
    cosine = mb.real_div(x=product, y=mb.mul(x=mb.sqrt(x=square), y=mb.sqrt(x=other_square)))
    apart = mb.maximum(x=mb.sub(x=cosine, y=margin), y=0.0)
    target = as_float(target)
    loss = mb.add(
        x=selected(mb, mb.equal(x=target, y=1.0), mb.sub(x=1.0, y=cosine), 0.0),
        y=selected(mb, mb.equal(x=target, y=-1.0), apart, 0.0),
    )
    if reduction == _NONE or not loss.rank:
        return loss
    reduce = mb.reduce_mean if reduction == _MEAN else mb.reduce_sum
    return reduce(x=loss, axes=list(range(loss.rank)), keep_dims=False)


def _divided(mb: Builder, x: Var) -> tuple[Var, Var]:
    """Rows over their greatest magnitude m, and `1e-6 / m` for each row."""
    largest = mb.reduce_max(x=mb.abs(x=x), axes=[-1], keep_dims=True)
    x, largest, root = promoted(x, mb.maximum(x=largest, y=promoted(largest, _LEAST)[1]), 1e-6)
    return mb.real_div(x=x, y=largest), mb.squeeze(x=mb.real_div(x=root, y=largest), axes=[-1])


def renorm(mb: Builder, x: Var, p: float, dim: int, maxnorm: float) -> Var:
    """Slices along `dim` whose p-norm is above `maxnorm`, scaled down to it.

    With the greatest magnitude m of a slice, `norm = m norm(x / m)`, whose powers are at most 1.
    """
    x = as_float(x)
    axes = [axis for axis in range(x.rank) if axis != dim % x.rank]
    largest = mb.reduce_max(x=mb.abs(x=x), axes=axes, keep_dims=True)
    least = mb.maximum(x=largest, y=promoted(largest, _LEAST)[1])
    share = mb.abs(x=mb.real_div(x=x, y=least))
    if math.isinf(p):
        norm = mb.reduce_max(x=share, axes=axes, keep_dims=True)
    else:
        powers = share if p == 1 else mb.pow(x=share, y=promoted(share, float(p))[1])
        norm = mb.reduce_sum(x=powers, axes=axes, keep_dims=True)
        norm = norm if p == 1 else mb.pow(x=norm, y=promoted(norm, 1 / float(p))[1])
    limit = mb.real_div(x=promoted(least, float(maxnorm))[1], y=least)
    shorter = mb.mul(x=mb.real_div(x=x, y=least), y=mb.real_div(x=promoted(norm, float(maxnorm))[1], y=norm))
    return selected(mb, mb.greater(x=norm, y=limit), shorter, x)


_IDENTITY = UpstreamBug(issue=None, summary="leaves dropout out that is on in a model that is evaluated")

TRAINING = (
    *(
        Lowering(operator=name, lower=dropout, wrong=_IDENTITY, applies=_drops)
        for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
    ),
    Lowering(operator="native_dropout", lower=native_dropout, wrong=_IDENTITY, applies=_drops),
    Lowering(operator="cosine_embedding_loss", lower=cosine_embedding_loss),
    Lowering(operator="renorm", lower=renorm),
)
