"""Resize of ONNX along sizes that the app decides: places from exact fractions of integers, as for torch."""

from __future__ import annotations

from collections.abc import Iterator

from builder.backends.coreml.lowerings.flexible_resizing import cubic, fraction_of, interpolated, odd
from builder.backends.coreml.lowerings.flexible_sizes import axis_size, places_of
from builder.backends.coreml.lowerings.lowering import Size, Var
from builder.backends.coreml.lowerings.onnx_lowerer import Attributes, Inputs, Node, OnnxLowerer
from builder.backends.coreml.lowerings.onnx_reduction import constant
from builder.backends.coreml.lowerings.onnx_shape import depends_on_values

Steps = tuple[Size, Size, Size, Size]
"""The old and the new size of an axis, and the step from one entry to the next as numerator and denominator."""


def is_open_resize(x: Var, inputs: Inputs) -> bool:
    """Whether only the app knows a size, before or after, that changes."""
    scales, sizes = _scales_and_sizes(inputs)
    if sizes is not None and sizes.val is None:
        return True
    given = scales if scales is not None else sizes
    return (
        given is not None
        and given.val is not None
        and any(not isinstance(size, int) for size in x.shape)
        and not (
            scales is not None
            and all(
                isinstance(size, int) or scale == 1
                for size, scale in zip(x.shape[-len(scales.val) :], scales.val, strict=False)
            )
        )
    )


def resize_open(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> Var:
    """One axis after the other. Raises RuntimeError for modes that need sizes which are known."""
    mb, x = lowerer.mb, inputs[0]
    mode = attributes.get("mode", "nearest")
    steps = list(_steps(lowerer, x, inputs, attributes))
    if (own := _own_operator(lowerer, node, x, inputs, attributes)) is not None:
        return own
    is_integer = x.dtype == lowerer.types.int32
    result = mb.cast(x=x, dtype="fp32") if is_integer and mode != "nearest" else x
    for axis, each in steps:
        above, below = _place(lowerer, each, attributes)
        last = mb.sub(x=each[0], y=1)
        if mode == "nearest":
            chosen = mb.minimum(x=mb.maximum(x=_nearest(lowerer, above, below, attributes), y=0), y=last)
            result = mb.gather(x=result, indices=chosen, axis=axis)
        else:
            result = (interpolated if mode == "linear" else cubic)(mb, result, axis, above, below, last)
    if result.dtype != x.dtype:
        result = mb.cast(x=result, dtype=lowerer.types.builtin_to_string(x.dtype))
    return mb.identity(x=result, name=lowerer.fresh_name(node))


def _scales_and_sizes(inputs: Inputs) -> tuple[Var | None, Var | None]:
    """Each None where it is left out or empty."""
    given = [*inputs, None, None, None][2:4]
    scales, sizes = (None if value is None or 0 in value.shape else value for value in given)
    return scales, sizes


def _steps(lowerer: OnnxLowerer, x: Var, inputs: Inputs, attributes: Attributes) -> Iterator[tuple[int, Steps]]:
    """The axes that change. Raises RuntimeError where sizes depend on values, or a mode needs to know them."""
    mb = lowerer.mb
    scales, sizes = _scales_and_sizes(inputs)
    known = {
        "keep_aspect_ratio_policy": attributes.get("keep_aspect_ratio_policy", "stretch") == "stretch",
        "exclude_outside": not attributes.get("exclude_outside", 0),
        "cubic_coeff_a": attributes.get("cubic_coeff_a", -0.75) == -0.75,
    }
    for name, is_usual in known.items():
        if not is_usual:
            raise RuntimeError(f"{name} of Resize needs fixed sizes")
    chosen = [int(axis) % x.rank for axis in attributes.get("axes") or range(x.rank)]
    for place, axis in enumerate(chosen):
        old = axis_size(mb, x, axis)
        if scales is not None:
            factor = float(constant(scales, "the scales")[place])
            if factor == 1:
                continue
            if factor < 1 and attributes.get("antialias", 0):
                raise RuntimeError("antialias of Resize needs fixed sizes")
            try:
                fraction = fraction_of(factor)
            except NotImplementedError as error:
                raise RuntimeError(str(error)) from error
            a, b = fraction.numerator, fraction.denominator
            yield axis, (old, mb.floor_div(x=mb.mul(x=old, y=a), y=b), b, a)
            continue
        if sizes is None:
            raise RuntimeError("Resize has neither scales nor sizes")
        if sizes.val is None and depends_on_values(sizes):
            raise RuntimeError("the size of its result depends on values, and Core ML's sizes do not")
        if attributes.get("antialias", 0):
            raise RuntimeError("antialias of Resize needs fixed sizes")
        symbolic = sizes.val if sizes.val is not None else sizes.sym_val
        if symbolic is not None and symbolic[place] == x.shape[axis]:
            continue
        new = int(sizes.val[place]) if sizes.val is not None else mb.gather(x=sizes, indices=place, axis=0)
        yield axis, (old, new, old, new)


def _place(lowerer: OnnxLowerer, steps: Steps, attributes: Attributes) -> tuple[Var, Size]:
    """Where each new entry lies among the old, as numerators and a denominator, by the formulas of ONNX's Resize."""
    mb, (old, new, numerator, denominator) = lowerer.mb, steps
    places = places_of(mb, new)
    way = attributes.get("coordinate_transformation_mode", "half_pixel")
    doubled = mb.mul(x=denominator, y=2) if not isinstance(denominator, int) else 2 * denominator
    if way == "asymmetric":
        return mb.mul(x=places, y=numerator), denominator
    if way == "align_corners":
        return mb.mul(x=places, y=mb.sub(x=old, y=1)), mb.maximum(x=mb.sub(x=new, y=1), y=1)
    middles = mb.mul(x=odd(mb, places), y=numerator)
    if way == "tf_half_pixel_for_nn":
        return middles, doubled
    above = mb.sub(x=middles, y=denominator)
    if way == "pytorch_half_pixel":  # a single entry is the first
        return mb.mul(x=above, y=mb.minimum(x=mb.sub(x=new, y=1), y=1)), doubled
    if way == "half_pixel":
        return above, doubled
    raise RuntimeError(f"coordinate_transformation_mode {way} of Resize needs fixed sizes")


def _nearest(lowerer: OnnxLowerer, above: Var, below: Size, attributes: Attributes) -> Var:
    """The place rounded as `nearest_mode` says; `ceil(a / b)` is `floor((a + b - 1) / b)`."""
    mb, way = lowerer.mb, attributes.get("nearest_mode", "round_prefer_floor")
    if way == "floor":
        return mb.floor_div(x=above, y=below)
    if way == "ceil":
        return mb.floor_div(x=mb.sub(x=mb.add(x=above, y=below), y=1), y=below)
    twice = mb.mul(x=above, y=2)
    half = mb.add(x=twice, y=below)  # round_prefer_ceil: floor(place + 1/2)
    if way == "round_prefer_floor":  # ceil(place - 1/2)
        half = mb.sub(x=half, y=1)
    return mb.floor_div(x=half, y=mb.mul(x=below, y=2))


def _own_operator(lowerer: OnnxLowerer, node: Node, x: Var, inputs: Inputs, attributes: Attributes) -> Var | None:
    """Core ML's own operators for pictures that become some times as large."""
    scales, _ = _scales_and_sizes(inputs)
    way = attributes.get("coordinate_transformation_mode", "half_pixel")
    if scales is None or x.rank != 4 or x.dtype == lowerer.types.int32 or attributes.get("axes"):
        return None
    batch, channels, *factors = (float(scale) for scale in constant(scales, "the scales"))
    if (batch, channels) != (1, 1) or any(factor != int(factor) or factor < 1 for factor in factors):
        return None
    mode, rounds = attributes.get("mode", "nearest"), attributes.get("nearest_mode", "round_prefer_floor")
    size = {"scale_factor_height": factors[0], "scale_factor_width": factors[1], "name": lowerer.fresh_name(node)}
    repeats = (way == "asymmetric" and rounds == "floor") or (way == "half_pixel" and rounds.startswith("round"))
    if mode == "nearest" and repeats:
        whole = {**size, "scale_factor_height": int(factors[0]), "scale_factor_width": int(factors[1])}
        return lowerer.mb.upsample_nearest_neighbor(x=x, **whole)
    if mode == "linear" and way in ("half_pixel", "pytorch_half_pixel"):
        return lowerer.mb.upsample_bilinear(x=x, align_corners=False, **size)
    return None
