"""Resize of ONNX: every mode as weights along each axis, and by Core ML's own operators where these are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from builder.backends.coreml.lowerings.lowering import Var
from builder.backends.coreml.lowerings.onnx_elementwise import number
from builder.backends.coreml.lowerings.onnx_lowerer import Attributes, Inputs, Lowering, Node, OnnxLowerer
from builder.backends.coreml.lowerings.onnx_reduction import constant
from builder.backends.coreml.lowerings.onnx_resize_open import is_open_resize, resize_open


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """What happens to one axis: sizes, scale, and the part of it that `tf_crop_and_resize` takes."""

    size: int
    target: int
    scale: float
    start: float = 0.0
    end: float = 1.0


def _resize(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """By the formulas of ONNX's Resize; an axis of which neither size nor scale changes is left alone."""
    mb, x = lowerer.mb, inputs[0]
    if is_open_resize(x, inputs):
        return [resize_open(lowerer, node, inputs, attributes)]
    axes = _axes(x, [*inputs, None, None, None][1:4], attributes)
    mode = attributes.get("mode", "nearest")
    if (own := _own_operator(lowerer, node, x, axes, attributes)) is not None:
        return [own]
    is_float = x.dtype != lowerer.types.int32
    result = x if is_float or mode == "nearest" else mb.cast(x=x, dtype="fp32")
    outside = None
    for index, axis in axes.items():
        places = _places(axis, attributes)
        if mode == "nearest":
            chosen = np.clip(_nearest(places, attributes), 0, axis.size - 1).astype(np.int32)
            result = mb.gather(x=result, indices=chosen, axis=index)
        else:
            result = _weighted(lowerer, result, index, _weights(axis, places, mode, attributes))
        if attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
            beyond = (places < 0) | (places > axis.size - 1)
            shape = [-1 if i == index else 1 for i in range(x.rank)]
            outside = beyond.reshape(shape) if outside is None else outside | beyond.reshape(shape)
    if outside is not None and outside.any():
        value = number(lowerer, result, float(attributes.get("extrapolation_value", 0.0)))
        cond = np.broadcast_to(outside, result.shape)
        result = mb.select(cond=mb.const(val=np.ascontiguousarray(cond)), a=value, b=result)
    if result.dtype != x.dtype:
        result = mb.cast(x=result, dtype=lowerer.types.builtin_to_string(x.dtype))
    return [mb.identity(x=result, name=lowerer.fresh_name(node))]


def _axes(x: Var, given: Sequence[Var | None], attributes: Attributes) -> dict[int, _Axis]:
    """The axes whose size or scale changes, by number."""
    region, scales, sizes = (
        None if value is None or 0 in value.shape else np.asarray(constant(value, "scales and sizes"))
        for value in given
    )
    chosen = [int(axis) % x.rank for axis in attributes.get("axes") or range(x.rank)]
    starts, ends = np.split(region, 2) if region is not None else (np.zeros(len(chosen)), np.ones(len(chosen)))
    found = {}
    for place, index in enumerate(chosen):
        size = x.shape[index]
        scale = None if scales is None else float(scales[place])
        if scale == 1.0 or not isinstance(size, int):
            continue
        scale = scale or _scale(x, chosen, sizes, place, attributes)
        fitted = sizes is not None and attributes.get("keep_aspect_ratio_policy", "stretch") == "stretch"
        target = int(sizes[place]) if fitted and sizes is not None else _rounded(scale * size, exact=sizes is None)
        if target != size or scale != 1.0:
            crop = attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
            found[index] = _Axis(
                size=size,
                target=target,
                scale=scale,
                start=float(starts[place]) if crop else 0.0,
                end=float(ends[place]) if crop else 1.0,
            )
    return found


def _scale(x: Var, chosen: Sequence[int], sizes: Any, place: int, attributes: Attributes) -> float:
    """The scale that reaches a size; with `keep_aspect_ratio_policy` the least or the greatest of all axes."""
    ratios = [float(sizes[i]) / x.shape[index] for i, index in enumerate(chosen)]
    policy = attributes.get("keep_aspect_ratio_policy", "stretch")
    return float(ratios[place] if policy == "stretch" else min(ratios) if policy == "not_larger" else max(ratios))


def _rounded(size: float, *, exact: bool) -> int:
    """Down for scales, as ONNX says; to the nearest where the sizes keep the aspect ratio."""
    return int(np.floor(size)) if exact else int(np.floor(size + 0.5))


def _places(axis: _Axis, attributes: Attributes) -> Var:
    """Where each place of the result lies in the input, of shape (target,)."""
    y = np.arange(axis.target, dtype=np.float64)
    match attributes.get("coordinate_transformation_mode", "half_pixel"):
        case "half_pixel":
            return (y + 0.5) / axis.scale - 0.5
        case "half_pixel_symmetric":
            adjusted = axis.target / (axis.scale * axis.size)
            return axis.size / 2 * (1 - adjusted) + (y + 0.5) / axis.scale - 0.5
        case "pytorch_half_pixel":
            return (y + 0.5) / axis.scale - 0.5 if axis.target > 1 else np.zeros_like(y)
        case "align_corners":
            return y * (axis.size - 1) / (axis.target - 1) if axis.target > 1 else np.zeros_like(y)
        case "asymmetric":
            return y / axis.scale
        case "tf_half_pixel_for_nn":
            return (y + 0.5) / axis.scale
        case "tf_crop_and_resize":
            last = axis.size - 1
            if axis.target == 1:
                return np.full_like(y, 0.5 * (axis.start + axis.end) * last)
            return axis.start * last + y * (axis.end - axis.start) * last / (axis.target - 1)
        case other:
            raise RuntimeError(f"there is no coordinate_transformation_mode {other}")


def _nearest(places: Var, attributes: Attributes) -> Var:
    match attributes.get("nearest_mode", "round_prefer_floor"):
        case "floor":
            return np.floor(places)
        case "ceil":
            return np.ceil(places)
        case "round_prefer_ceil":
            return np.floor(places + 0.5)
        case _:
            return np.ceil(places - 0.5)


def _weights(axis: _Axis, places: Var, mode: str, attributes: Attributes) -> Var:
    """The weight of each place of the input for each of the result, (target, size)."""
    stretch = 1 / axis.scale if attributes.get("antialias", 0) and axis.scale < 1 else 1.0
    reach = (1 if mode == "linear" else 2) * stretch
    matrix = np.zeros((axis.target, axis.size))
    for row, place in enumerate(places):
        taps = np.arange(int(np.floor(place - reach)), int(np.ceil(place + reach)) + 1)
        weights = _kernel((taps - place) / stretch, mode, float(attributes.get("cubic_coeff_a", -0.75)))
        if attributes.get("exclude_outside", 0):
            weights = np.where((taps < 0) | (taps >= axis.size), 0.0, weights)
        total = weights.sum()
        np.add.at(matrix[row], np.clip(taps, 0, axis.size - 1), weights / (total or 1.0))
    return matrix


def _kernel(distance: Var, mode: str, a: float) -> Var:
    """Of a triangle, or the cubic convolution with coefficient a (Keys, 1981)."""
    d = abs(distance)
    if mode == "linear":
        return np.maximum(0.0, 1 - d)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _weighted(lowerer: OnnxLowerer, x: Var, axis: int, matrix: Var) -> Var:
    """`matrix` (target, size) times `x` along one axis."""
    mb = lowerer.mb
    weights = matrix.astype(lowerer.types.nptype_from_builtin(x.dtype))
    if x.rank == 1:
        return mb.squeeze(x=mb.matmul(x=weights, y=mb.expand_dims(x=x, axes=[1])), axes=[1])
    if axis == x.rank - 2:
        return mb.matmul(x=weights, y=x)
    if axis == x.rank - 1:
        return mb.matmul(x=x, y=np.ascontiguousarray(weights.T))
    swapped = [x.rank - 2 if i == axis else axis if i == x.rank - 2 else i for i in range(x.rank)]
    return mb.transpose(x=mb.matmul(x=weights, y=mb.transpose(x=x, perm=swapped)), perm=swapped)


def _own_operator(
    lowerer: OnnxLowerer, node: Node, x: Var, axes: Mapping[int, _Axis], attributes: Attributes
) -> Var | None:
    """Core ML's operators for pictures: repeated places, and linear with half pixels or aligned corners."""
    if x.rank != 4 or not set(axes) <= {2, 3} or not axes or x.dtype == lowerer.types.int32:
        return None
    height, width = (axes[i].target if i in axes else x.shape[i] for i in (2, 3))
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    mode, way = attributes.get("mode", "nearest"), attributes.get("coordinate_transformation_mode", "half_pixel")
    target = {"target_size_height": height, "target_size_width": width, "name": lowerer.fresh_name(node)}
    if mode == "nearest":
        for axis in axes.values():
            chosen = np.clip(_nearest(_places(axis, attributes), attributes), 0, axis.size - 1)
            if axis.target % axis.size or not np.array_equal(
                chosen, np.repeat(np.arange(axis.size), axis.target // axis.size)
            ):
                return None
        return lowerer.mb.resize_nearest_neighbor(x=x, **target)
    exact = all(abs(axis.scale - axis.target / axis.size) < 1e-9 and axis.target > 1 for axis in axes.values())
    if mode != "linear" or not exact or way not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        return None
    if attributes.get("antialias", 0) and any(axis.scale < 1 for axis in axes.values()):
        return None
    sampling = "ALIGN_CORNERS" if way == "align_corners" else "UNALIGN_CORNERS"
    return lowerer.mb.resize_bilinear(x=x, sampling_mode=sampling, **target)


RESIZE: Mapping[str, Lowering] = {"Resize": _resize}
"""By ONNX's name."""
