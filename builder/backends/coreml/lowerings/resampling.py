"""Resizing that coremltools lacks, as products with constant matrices: one for each axis.

A resize is linear, and works on each axis alone. So torch itself is asked, once, what it makes of the identity matrix
along an axis; that answer, (new size, old size), is multiplied with the tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING

from builder.backends.coreml.lowerings.flexible_resizing import bicubic, nearest_exact
from builder.backends.coreml.lowerings.flexible_sizes import is_open
from builder.backends.coreml.lowerings.lowering import Builder, Constant, Lowering, Size, Sizes, UpstreamBug, Var
from builder.backends.coreml.lowerings.variables import fixed_shape, is_constant, take

if TYPE_CHECKING:
    import numpy as np
    import torch


Resize = Callable[..., "torch.Tensor"]
"""Takes `align_corners` where there is such an argument, then (1, N, L), the new size and the scale along the axis;
returns (1, N, new size)."""


def _resized(
    mb: Builder, x: Var, output_size: Sizes, factors: Sequence[float | None], weights: Callable[..., np.ndarray]
) -> Var:
    sizes = fixed_shape(x, "resizing")
    count = len(factors)
    for index in range(count):
        axis = x.rank - count + index
        factor = factors[index]
        size = _new_size(sizes[axis], None if output_size is None else output_size[index], factor)
        x = _along(mb, x, axis, weights(sizes[axis], size, factor))
    return x


def _new_size(old: int, given: Size | None, factor: float | None) -> int:
    if given is not None:
        if is_constant(given):
            given = int(given.val)
        if not isinstance(given, int):
            raise NotImplementedError("resizing to a size that depends on the input is not converted")
        return given
    if factor is None:
        raise NotImplementedError("resizing without a size is not converted")
    return math.floor(old * factor)


def _along(mb: Builder, x: Var, axis: int, matrix: np.ndarray) -> Var:
    """(…, L, …) times (new, L) along one axis; nearest neighbours, of which a row has but one, are picked instead."""
    import numpy as np

    if np.array_equal(matrix, np.eye(matrix.shape[1])):
        return x
    if (
        np.array_equal(matrix, matrix.round())
        and (matrix.sum(axis=1) == 1).all()
        and (np.abs(matrix).sum(axis=1) == 1).all()
    ):
        return take(mb, x, axis, matrix.argmax(axis=1).tolist())
    if axis == x.rank - 1:
        return mb.matmul(x=x, y=matrix, transpose_y=True)
    sizes = fixed_shape(x, "resizing")
    rest = math.prod(sizes[axis + 1 :])
    columns = mb.reshape(x=x, shape=[*sizes[: axis + 1], rest])
    resized = mb.matmul(x=matrix, y=columns)
    return mb.reshape(x=resized, shape=[*sizes[:axis], matrix.shape[0], *sizes[axis + 1 :]])


def _answer(function: Resize, old: int, new: int, factor: float | None) -> np.ndarray:
    """What `function` makes of the identity along one axis: (new, old) as float32."""
    import torch

    identity = torch.eye(old, dtype=torch.float64).reshape(1, old, old)
    return function(identity, new, factor)[0].T.float().numpy()


def _cubic(operator: str, align_corners: bool, x: torch.Tensor, size: int, factor: float | None) -> torch.Tensor:
    """Along the width: with a width of 1, torch 2.13 smooths the height wrongly."""
    import torch

    resize = getattr(torch.ops.aten, operator)
    resized: torch.Tensor = resize(x.unsqueeze(-2), [1, size], align_corners, None, factor).squeeze(-2)
    return resized


def _smooth(align_corners: bool, x: torch.Tensor, size: int, factor: float | None) -> torch.Tensor:
    """With antialiasing: along the width, as the cubic one."""
    return _cubic("_upsample_bilinear2d_aa", align_corners, x, size, factor)


def _linear(align_corners: bool, x: torch.Tensor, size: int, factor: float | None) -> torch.Tensor:
    import torch

    resized: torch.Tensor = torch.ops.aten.upsample_linear1d(x, [size], align_corners, factor)
    return resized


def _nearest(operator: str, x: torch.Tensor, size: int, factor: float | None) -> torch.Tensor:
    import torch

    resized: torch.Tensor = getattr(torch.ops.aten, operator)(x, [size], factor)
    return resized


def _factors(given: Sequence[Constant], count: int) -> list[float | None]:
    """The scale of each axis: given one by one, as a list, or not at all."""
    first = given[0] if given else None
    values = list(first) if isinstance(first, list) else list(given)
    return [None if value is None else float(value) for value in (*values, *[None] * count)][:count]


def _with_corners(
    count: int,
    answer: Resize,
    mb: Builder,
    x: Var,
    output_size: Sizes,
    align_corners: bool,
    scale_factors: Constant = None,
    scales_w: float | None = None,
    scales_more: float | None = None,
) -> Var:
    """Cubic and linear resizing; torch names the arguments behind `align_corners` differently by operator."""
    factors = _factors([scale_factors, scales_w, scales_more], count)
    weights = partial(_answer, partial(answer, bool(align_corners)))
    return _resized(mb, x, output_size, factors, weights)


def _without_corners(
    count: int,
    answer: Resize,
    mb: Builder,
    x: Var,
    output_size: Sizes,
    scale_factors: Constant = None,
    scales_w: float | None = None,
    scales_more: float | None = None,
) -> Var:
    """Nearest-neighbour resizing."""
    factors = _factors([scale_factors, scales_w, scales_more], count)
    return _resized(mb, x, output_size, factors, partial(_answer, answer))


def _where_open(flexible: Callable[..., Var] | None, fixed: Callable[..., Var]) -> Callable[..., Var]:
    """`flexible` where only the app knows a size, and `fixed`, with the same arguments, where all are known."""
    if flexible is None:
        return fixed

    @wraps(fixed)
    def lower(mb: Builder, x: Var, output_size: Sizes, *more: Constant, **named: Constant) -> Var:
        is_flexible = is_open(output_size) or is_open(x.shape[2:])
        return (flexible if is_flexible else fixed)(mb, x, output_size, *more, **named)

    return lower


_NEAREST, _EXACT = partial(_nearest, "upsample_nearest1d"), partial(_nearest, "_upsample_nearest_exact1d")

_CORNERS: dict[str, tuple[int, Resize]] = {
    **{name: (2, partial(_cubic, name)) for name in ("upsample_bicubic2d", "_upsample_bicubic2d_aa")},
    "upsample_trilinear3d": (3, _linear),
}
_SMOOTH = UpstreamBug(issue=2818, summary="resizes without antialiasing")
_PLAIN: dict[str, tuple[int, Resize]] = {
    "upsample_nearest3d": (3, _NEAREST),
    **{f"_upsample_nearest_exact{count}d": (count, _EXACT) for count in (1, 2, 3)},
}

_FLEXIBLE: dict[str, Callable[..., Var]] = {
    "upsample_bicubic2d": bicubic,
    **{f"_upsample_nearest_exact{count}d": nearest_exact for count in (1, 2)},
}

RESAMPLING = (
    *(
        Lowering(operator=f"{name}{overload}", lower=_where_open(_FLEXIBLE.get(name), partial(lower, count, answer)))
        for table, lower in ((_CORNERS, _with_corners), (_PLAIN, _without_corners))
        for name, (count, answer) in table.items()
        for overload in ("", ".vec")
    ),
    *(
        Lowering(operator=f"_upsample_bilinear2d_aa{overload}", lower=partial(_with_corners, 2, _smooth), wrong=_SMOOTH)
        for overload in ("", ".vec")
    ),
)
