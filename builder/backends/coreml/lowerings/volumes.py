"""Sampling of volumes (N, C, D, H, W) on a grid, which Core ML has for pictures alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from builder.backends.coreml.lowerings.flexible_sizes import is_open, places_of, whole
from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Size, Var
from builder.backends.coreml.lowerings.variables import as_float, fixed_shape, slice_axis

_LINEAR, _NEAREST = 0, 1
_ZEROS, _BORDER, _REFLECTION = 0, 1, 2


def grid_sampler_3d(
    mb: Builder, x: Var, grid: Var, interpolation_mode: int = 0, padding_mode: int = 0, align_corners: bool = False
) -> Var:
    """Values of (N, C, D, H, W) at the places that a grid (N, d, h, w, 3) names, x first, from -1 to 1.

    Each is a sum over the eight corners around it, gathered from the volume as one row.
    """
    batch, channels, *sizes = fixed_shape(x, "grid_sample")
    wanted = fixed_shape(grid, "grid_sample")[1:4]
    count = wanted[0] * wanted[1] * wanted[2]
    axes = []
    for axis, size in enumerate(sizes):
        turned = slice_axis(mb, grid, -1, 2 - axis, 3 - axis)
        place = _in_pixels(mb, mb.reshape(x=turned, shape=[batch, count]), size, align_corners=bool(align_corners))
        place = _folded(mb, place, size, padding_mode, align_corners=bool(align_corners))
        axes.append(_corners(mb, place, size, interpolation_mode))
    flat = mb.reshape(x=x, shape=[batch, channels, sizes[0] * sizes[1] * sizes[2]])
    total: Var = None
    for corners in itertools.product(*axes):
        index: Var = None
        weight: Var = None
        for (place, share), size in zip(corners, sizes, strict=True):
            index = place if index is None else mb.add(x=mb.mul(x=index, y=size), y=place)
            weight = share if weight is None else mb.mul(x=weight, y=share)
        index = mb.tile(x=mb.expand_dims(x=index, axes=[1]), reps=[1, channels, 1])
        value = mb.gather_along_axis(x=flat, indices=index, axis=2)
        value = mb.mul(x=value, y=mb.expand_dims(x=weight, axes=[1]))
        total = value if total is None else mb.add(x=total, y=value)
    return mb.reshape(x=total, shape=[batch, channels, *wanted])


def grid_sampler(
    mb: Builder, x: Var, grid: Var, interpolation_mode: int = 0, padding_mode: int = 0, align_corners: bool = False
) -> Var:
    """The same of volumes and of pictures, which are volumes of one layer; halves are rounded to even."""
    if x.rank == 5:
        return grid_sampler_3d(mb, x, grid, interpolation_mode, padding_mode, align_corners)
    deep = mb.expand_dims(x=grid, axes=[1])
    middle = mb.mul(x=slice_axis(mb, deep, -1, 0, 1), y=0.0)
    places = mb.concat(values=[deep, middle], axis=4)
    layer = grid_sampler_3d(mb, mb.expand_dims(x=x, axes=[2]), places, interpolation_mode, padding_mode, align_corners)
    return mb.squeeze(x=layer, axes=[2])


def affine_grid(mb: Builder, theta: Var, size: Sequence[int], align_corners: bool = False) -> Var:
    """Where an affine map (N, 2, 3) or (N, 3, 4) takes the pixels of an output of `size`: (N, H, W, 2) or with D."""
    import numpy as np

    lengths = list(size[2:])
    if is_open(list(size)):
        return _open_affine_grid(mb, as_float(theta), lengths, align_corners=bool(align_corners))
    axes = []
    for length in lengths:
        places = np.linspace(-1, 1, length) if length > 1 else np.zeros(1)
        axes.append(places if align_corners else places * ((length - 1) / length))
    grid = np.meshgrid(*axes, indexing="ij")[::-1]
    base = np.stack([*grid, np.ones(lengths)], axis=-1).reshape(1, -1, len(lengths) + 1).astype(np.float32)
    places = mb.matmul(x=np.repeat(base, size[0], axis=0), y=as_float(theta), transpose_y=True)
    return mb.reshape(x=places, shape=[size[0], *lengths, len(lengths)])


def _open_affine_grid(mb: Builder, theta: Var, lengths: Sequence[Size], *, align_corners: bool) -> Var:
    """The same for sizes that the app chooses: `theta[:, :, 0] x + theta[:, :, 1] y + theta[:, :, 2]`, x last."""
    count = len(lengths)
    columns = [
        mb.reshape(x=slice_axis(mb, theta, 2, i, i + 1), shape=[-1, *[1] * count, count]) for i in range(count + 1)
    ]
    grid = columns[-1]
    for axis, length in enumerate(lengths):
        steps = mb.cast(x=places_of(mb, whole(mb, length)), dtype="fp32")
        size = float(length) if isinstance(length, int) else mb.cast(x=whole(mb, length), dtype="fp32")
        if align_corners:
            gaps = mb.maximum(x=mb.sub(x=size, y=1.0), y=1.0)
            first = mb.mul(x=mb.minimum(x=mb.sub(x=size, y=1.0), y=1.0), y=-1.0)  # one pixel is in the middle
            places = mb.add(x=mb.real_div(x=mb.mul(x=steps, y=2.0), y=gaps), y=first)
        else:
            places = mb.sub(x=mb.real_div(x=mb.add(x=mb.mul(x=steps, y=2.0), y=1.0), y=size), y=1.0)
        shape = [1] * (count + 2)
        shape[axis + 1] = -1
        grid = mb.add(x=grid, y=mb.mul(x=mb.reshape(x=places, shape=shape), y=columns[count - 1 - axis]))
    return grid


def _is_beyond_resample(x: Var, interpolation_mode: int = 0) -> bool:
    return x.rank == 5 or interpolation_mode == _NEAREST


def _in_pixels(mb: Builder, place: Var, size: int, *, align_corners: bool) -> Var:
    """From -1 … 1 to the centres of pixels, or to their outer edges."""
    factor, offset = ((size - 1) / 2, (size - 1) / 2) if align_corners else (size / 2, (size - 1) / 2)
    return mb.add(x=mb.mul(x=place, y=factor), y=offset)


def _folded(mb: Builder, place: Var, size: int, padding_mode: int, *, align_corners: bool) -> Var:
    if padding_mode == _ZEROS:
        return place
    if padding_mode == _REFLECTION:
        low, span = (0.0, float(size - 1)) if align_corners else (-0.5, float(size))
        if span == 0:
            return mb.mul(x=place, y=0.0)
        away = mb.abs(x=mb.sub(x=place, y=low))
        turns = mb.floor(x=mb.real_div(x=away, y=span))
        rest = mb.sub(x=away, y=mb.mul(x=turns, y=span))
        odd = mb.sub(x=turns, y=mb.mul(x=mb.floor(x=mb.mul(x=turns, y=0.5)), y=2.0))
        mirrored = mb.sub(x=span, y=rest)
        folded = mb.add(x=rest, y=mb.mul(x=odd, y=mb.sub(x=mirrored, y=rest)))
        place = mb.add(x=folded, y=low)
    return mb.minimum(x=mb.maximum(x=place, y=0.0), y=float(size - 1))


def _corners(mb: Builder, place: Var, size: int, mode: int) -> list[tuple[Var, Var]]:
    """The places on one axis that a value is made of, inside the axis, and the share of each: none outside."""
    if mode == _NEAREST:
        near = mb.round(x=place)
        return [(_inside(mb, near, size), _is_inside(mb, near, size))]
    if mode != _LINEAR:
        raise NotImplementedError("grid_sample of volumes is converted for bilinear and nearest alone")
    below = mb.floor(x=place)
    share = mb.sub(x=place, y=below)
    above = mb.add(x=below, y=1.0)
    shares = (mb.sub(x=1.0, y=share), share)
    return [
        (_inside(mb, each, size), mb.mul(x=part, y=_is_inside(mb, each, size)))
        for each, part in zip((below, above), shares, strict=True)
    ]


def _inside(mb: Builder, place: Var, size: int) -> Var:
    return mb.cast(x=mb.minimum(x=mb.maximum(x=place, y=0.0), y=float(size - 1)), dtype="int32")


def _is_inside(mb: Builder, place: Var, size: int) -> Var:
    inside = mb.logical_and(x=mb.greater_equal(x=place, y=0.0), y=mb.less_equal(x=place, y=float(size - 1)))
    return mb.cast(x=inside, dtype="fp32")


VOLUMES = (
    Lowering(
        operator="affine_grid_generator",
        lower=affine_grid,
        upstream_gap="maps that the input decides, and all that is not bilinear with zeros around",
    ),
    Lowering(operator="grid_sampler_3d", lower=grid_sampler_3d),
    Lowering(
        operator="grid_sampler",
        lower=grid_sampler,
        upstream_gap="volumes, and torch's rounding of halves",
        applies=_is_beyond_resample,
    ),
)
