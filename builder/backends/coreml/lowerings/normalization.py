"""Normalisation: by the root of the mean square, by groups of channels, by statistics that were learnt."""

from __future__ import annotations

import math
from collections.abc import Sequence

from builder.backends.coreml.lowerings.lowering import Builder, Constant, Lowering, Sizes, Unused, UpstreamBug, Var
from builder.backends.coreml.lowerings.statistics import normalized_by_spread, spread_and_root
from builder.backends.coreml.lowerings.variables import is_constant, promoted

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


def group_norm(
    mb: Builder,
    x: Var,
    num_groups: int,
    weight: Var | None = None,
    bias: Var | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Var:
    """`(x - mean) / sqrt(variance + eps) * weight + bias` of (N, C, …) over groups of channels, of any sizes."""
    del cudnn_enabled
    channels = int(x.shape[1])
    whole = _shape_of(mb, x)
    groups = mb.reshape(x=x, shape=_grouped(mb, x, num_groups))
    result = mb.reshape(x=normalized_by_spread(mb, groups, [2], eps), shape=whole)
    return _scaled(mb, result, weight, bias, [1, channels, *[1] * (x.rank - 2)])


def native_group_norm(
    mb: Builder,
    x: Var,
    weight: Var | None,
    bias: Var | None,
    N: Unused,  # noqa: N803 - torch's own names
    C: Unused,  # noqa: N803 - as above
    HxW: Unused,  # noqa: N803 - as above
    group: int,
    eps: float,
) -> tuple[Var, ...]:
    """What exported programs call it; mean and deviation serve training alone."""
    del N, C, HxW
    return (group_norm(mb, x, group, weight, bias, eps), None, None)


def _shape_of(mb: Builder, x: Var) -> Sizes:
    return list(x.shape) if all(isinstance(size, int) for size in x.shape) else mb.shape(x=x)


def _grouped(mb: Builder, x: Var, groups: int) -> Sizes:
    """(N, groups, elements of a group)."""
    rest = x.shape[1:]
    if all(isinstance(size, int) for size in rest):
        return [x.shape[0] if isinstance(x.shape[0], int) else -1, groups, math.prod(rest) // groups]
    if isinstance(x.shape[0], int):
        return [x.shape[0], groups, -1]
    batch = mb.slice_by_size(x=mb.shape(x=x), begin=[0], size=[1])
    return mb.concat(values=[batch, [groups, -1]], axis=0)


def _scaled(mb: Builder, x: Var, weight: Var | None, bias: Var | None, shape: Sequence[int]) -> Var:
    if weight is not None:
        x, weight = promoted(x, mb.reshape(x=weight, shape=list(shape)))
        x = mb.mul(x=x, y=weight)
    if bias is not None:
        x, bias = promoted(x, mb.reshape(x=bias, shape=list(shape)))
        x = mb.add(x=x, y=bias)
    return x


def layer_norm(
    mb: Builder,
    x: Var,
    normalized_shape: Sequence[int],
    weight: Var | None = None,
    bias: Var | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Var:
    """`(x - mean) / sqrt(variance + eps) * weight + bias` over the last axes, with factors that the input decides."""
    del cudnn_enabled
    result = mb.layer_norm(x=x, axes=list(range(-len(normalized_shape), 0)), epsilon=promoted(x, eps)[1])
    for operator, each in (("mul", weight), ("add", bias)):
        if each is not None:
            result, each = promoted(result, each)
            result = getattr(mb, operator)(x=result, y=each)
    return result


def native_layer_norm(
    mb: Builder,
    x: Var,
    normalized_shape: Sequence[int],
    weight: Var | None = None,
    bias: Var | None = None,
    eps: float = 1e-5,
) -> tuple[Var, ...]:
    """What exported programs call it; mean and deviation serve training alone."""
    return (layer_norm(mb, x, normalized_shape, weight, bias, eps), None, None)


def _has_open_factors(weight: Var | None = None, bias: Var | None = None) -> bool:
    return any(each is not None and not is_constant(each) for each in (weight, bias))


def _by_running_statistics(
    mb: Builder, x: Var, weight: Var | None, bias: Var | None, mean: Var | None, variance: Var | None, eps: float
) -> Var:
    """`(x - mean) / sqrt(variance + eps) * weight + bias` for each channel, as batch norm does it."""
    import numpy as np

    if mean is None or variance is None or not (is_constant(mean) and is_constant(variance)):
        raise NotImplementedError("instance_norm by running statistics that depend on the input is not converted")
    shape = [1, -1, *[1] * (x.rank - 2)]
    factor = (1 / np.sqrt(variance.val.astype(np.float64) + eps)).astype(np.float32).reshape(shape)
    distance = mb.sub(x=x, y=mean.val.astype(np.float32).reshape(shape))
    return _scaled(mb, mb.mul(x=distance, y=factor), weight, bias, shape)


def instance_norm(
    mb: Builder,
    x: Var,
    weight: Var | None,
    bias: Var | None,
    running_mean: Var | None,
    running_var: Var | None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Var:
    """Over all places of each channel of one sample: of volumes too; by the running statistics where it says so."""
    if not use_input_stats:
        return _by_running_statistics(mb, x, weight, bias, running_mean, running_var, eps)
    del momentum, cudnn_enabled
    axes = list(range(2, x.rank))
    result = normalized_by_spread(mb, x, axes, eps)
    return _scaled(mb, result, weight, bias, [1, int(x.shape[1]), *[1] * (x.rank - 2)])


def _is_learnt_or_a_volume(
    x: Var, weight: Var | None = None, bias: Var | None = None, use_input_stats: bool = True
) -> bool:
    return not use_input_stats or x.rank > 4 or _has_open_factors(weight, bias)


def batch_norm(
    mb: Builder,
    x: Var,
    weight: Var | None,
    bias: Var | None,
    running_mean: Var | None,
    running_var: Var | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Var:
    """Over all samples and places of each channel, by their own statistics."""
    del running_mean, running_var, training, cudnn_enabled
    return batch_norm_by_sample(mb, x, weight, bias, None, None, True, momentum, eps)[0]


def batch_norm_without_statistics(
    mb: Builder, x: Var, weight: Var | None, bias: Var | None, training: bool, momentum: float, eps: float
) -> tuple[Var, ...]:
    """What exported programs call it where there are no learnt statistics."""
    del training
    return batch_norm_by_sample(mb, x, weight, bias, None, None, True, momentum, eps)


def _is_by_sample(training: bool, running_mean: Var | None = None, running_var: Var | None = None) -> bool:
    return bool(training) or running_mean is None or running_var is None


def batch_norm_by_sample(
    mb: Builder,
    x: Var,
    weight: Var | None,
    bias: Var | None,
    running_mean: Var | None,
    running_var: Var | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Var, ...]:
    """Over all samples and places of each channel, by their own statistics; the learnt ones serve training alone."""
    if not training:
        return (_by_running_statistics(mb, x, weight, bias, running_mean, running_var, eps),)
    del momentum
    axes = [axis for axis in range(x.rank) if axis != 1]
    result = normalized_by_spread(mb, x, axes, eps)
    return (_scaled(mb, result, weight, bias, [1, -1, *[1] * (x.rank - 2)]),)


def native_batch_norm(
    mb: Builder,
    x: Var,
    weight: Var | None,
    bias: Var | None,
    running_mean: Var | None,
    running_var: Var | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Var, Var, Var]:
    """By the statistics of the batch, which it returns too: the means, and one over the roots of variances and epsilon.

    Raises NotImplementedError where it takes learnt ones, which torch defines by other operators.
    """
    if not training:
        raise NotImplementedError("native_batch_norm by running statistics is not converted")
    del running_mean, running_var, momentum
    axes = [axis for axis in range(x.rank) if axis != 1]
    share, largest, mean, root = spread_and_root(mb, x, axes, eps)
    result = _scaled(mb, mb.real_div(x=share, y=root), weight, bias, [1, -1, *[1] * (x.rank - 2)])
    inverse = mb.real_div(x=1.0, y=mb.mul(x=largest, y=root))
    return result, mb.squeeze(x=mean, axes=axes), mb.squeeze(x=inverse, axes=axes)


def native_batch_norm_with_or_without(
    mb: Builder,
    x: Var,
    weight: Var | None,
    bias: Var | None,
    a: Constant,
    b: Constant,
    c: Constant,
    d: Constant = None,
    e: Constant = None,
) -> tuple[Var, Var, Var]:
    """As `native_batch_norm`; a trace has one name for both forms, of which one has no learnt statistics."""
    training, momentum, eps = (a, b, c) if e is None else (c, d, e)
    return native_batch_norm(mb, x, weight, bias, None, None, training, momentum, eps)


_SQUARES = UpstreamBug(issue=None, summary="squares distances that half precision does not hold")

_GROUPS = UpstreamBug(
    issue=None, summary="squares distances that half precision does not hold, and refuses a flexible batch"
)

_FACTORS = "factors that the input decides"

NORMALIZATION = (
    *(
        Lowering(operator=name, lower=lower, upstream_gap=_FACTORS, applies=_has_open_factors)
        for name, lower in (("layer_norm", layer_norm), ("native_layer_norm", native_layer_norm))
    ),
    Lowering(operator="group_norm", lower=group_norm, wrong=_GROUPS),
    Lowering(operator="native_group_norm", lower=native_group_norm, wrong=_GROUPS),
    Lowering(operator="batch_norm", lower=batch_norm, wrong=_SQUARES, applies=_is_by_sample),
    Lowering(operator="_native_batch_norm_legit.no_stats", lower=batch_norm_without_statistics, wrong=_SQUARES),
    Lowering(operator="_native_batch_norm_legit_functional", lower=batch_norm_by_sample),
    Lowering(operator="native_batch_norm", lower=native_batch_norm),
    Lowering(operator="_native_batch_norm_legit", lower=native_batch_norm_with_or_without),
    Lowering(
        operator="instance_norm",
        lower=instance_norm,
        wrong=UpstreamBug(issue=2666, summary="takes the sample's own statistics for those that were learnt"),
        applies=_is_learnt_or_a_volume,
    ),
    Lowering(
        operator="rms_norm",
        lower=rms_norm,
        wrong=UpstreamBug(
            issue=2821, summary="multiplies epsilon by the square of the largest value, and makes NaN of zeros"
        ),
    ),
)
