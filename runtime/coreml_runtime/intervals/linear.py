"""Bounds of sums of products: convolutions, linear layers, matrix products, attention, recurrent layers."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from coreml_runtime.intervals.binary import mul
from coreml_runtime.intervals.context import Operand, Outputs, table
from coreml_runtime.intervals.interval import Interval, anything, as_interval, everywhere, make, reduced

_HALF_ULP = 2.0**-24


def _slack(terms: int) -> float:
    """The relative error of a sum of products in single precision, to its sum of magnitudes, in any order of sums."""
    return (terms + 16) * _HALF_ULP


def weighted(low: Tensor, high: Tensor, weight: Tensor, terms: int) -> tuple[Tensor, Tensor]:
    """Bounds of weight (G, O, K) times values within `low` and `high` (G, K), with rounding: (G, O) each."""
    double = weight.double()
    return _centred(low, high, double, double.abs(), terms)


def _centred(low: Tensor, high: Tensor, weight: Tensor, magnitude: Tensor, terms: int) -> tuple[Tensor, Tensor]:
    """The same for weights in double precision and their magnitudes.

    Of finite values: weight times their middle, and its magnitude times how far they go from there.
    """
    if bool(low.isinf().any() | high.isinf().any()):
        return _bounds(low, high, weight.clamp(min=0), weight.clamp(max=0), terms)
    middle, reach = low / 2 + high / 2, high / 2 - low / 2
    reach = reach + torch.maximum(low.abs(), high.abs()) * _slack(terms)
    centre, around = ((w @ v[..., None]).squeeze(-1) for w, v in ((weight, middle), (magnitude, reach)))
    return centre - around, centre + around


def _bounds(low: Tensor, high: Tensor, positive: Tensor, negative: Tensor, terms: int) -> tuple[Tensor, Tensor]:
    """Of sums of weights (G, O, K), those above and below zero apart."""
    if bool(low.isinf().any() | high.isinf().any()):
        touched = ((positive - negative) > 0) & (low.isinf() | high.isinf())[:, None]
        open_ = touched.any(-1)
        ends = _bounds(low.nan_to_num(0, 0, 0), high.nan_to_num(0, 0, 0), positive, negative, terms)
        return torch.where(open_, -math.inf, ends[0]), torch.where(open_, math.inf, ends[1])
    ends = (
        torch.einsum("gok,gk->go", positive, low) + torch.einsum("gok,gk->go", negative, high),
        torch.einsum("gok,gk->go", positive, high) + torch.einsum("gok,gk->go", negative, low),
    )
    most = torch.maximum(low.abs(), high.abs())
    slack = torch.einsum("gok,gk->go", positive - negative, most) * _slack(terms)
    return ends[0] - slack, ends[1] + slack


def _of_sums(x: Interval, low: Tensor, high: Tensor, sizes: tuple[int | None, ...], *, nan: bool = False) -> Interval:
    made = make(low, high, sizes, nan=x.nan or nan or math.isinf(x.magnitude))
    return replace(made, reached=x.reached and x.sources is not None)


def _biased(made: Interval, bias: Operand | None, shape: tuple[int, ...]) -> Interval:
    """With a bias per channel, which `shape` lays along its axis."""
    if bias is None:
        return made
    found = as_interval(bias)
    low, high = (each.expand(found.sizes[0] or 1).reshape(shape) for each in (found.low, found.high))
    slack = (torch.maximum(low.abs(), high.abs()) + torch.maximum(made.low.abs(), made.high.abs())).nan_to_num(
        posinf=0.0
    )
    low, high = made.low + low - slack * _HALF_ULP * 2, made.high + high + slack * _HALF_ULP * 2
    return replace(made, low=low, high=high)


def _channels(x: Interval, count: int, *, padded: bool) -> tuple[Tensor, Tensor]:
    """The bounds of each channel, axis 1, as (C); of what is padded zero belongs to them."""
    flat = reduced(x, [axis for axis in range(x.low.dim()) if axis != 1])
    low, high = flat.low.reshape(-1).expand(count), flat.high.reshape(-1).expand(count)
    return (low.clamp(max=0), high.clamp(min=0)) if padded else (low, high)


def conv(
    *, x: Operand, weight: Operand, bias: Operand | None = None, strides: tuple[int, ...] = (), pad_type: str = "valid",
    pad: tuple[int, ...] = (), dilations: tuple[int, ...] = (), groups: int = 1, outputs: Outputs,
) -> Interval:  # fmt: skip
    """x (N, C_in, *D), weight (C_out, C_in / groups, *K), bias (C_out)."""
    del strides, dilations
    given = as_interval(x)
    padded = pad_type in ("same", "same_lower") or any(pad)
    if not isinstance(weight, Tensor):
        return _unknown_weights(given, weight, bias, outputs)
    out, each = weight.shape[:2]
    low, high = _channels(given, each * groups, padded=padded)
    parts = weight.float().reshape(groups, out // groups, each, -1)
    made = _per_channel(given, low, high, parts, out, outputs)
    inner = not padded or (0.0 in reduced(given, range(given.low.dim())) and _fits(given.sizes[2:], weight.shape[2:]))
    return _biased(replace(made, reached=made.reached and inner), bias, _along_channels(made))


def _fits(sizes: tuple[int | None, ...], kernel: torch.Size) -> bool:
    """Whether some window has no padding in it, where strides leave it."""
    return all(size is not None and size >= 2 * extent for size, extent in zip(sizes, kernel, strict=True))


def _along_channels(made: Interval) -> tuple[int, ...]:
    return (1, -1, *(1,) * (made.low.dim() - 2))


def _per_channel(given: Interval, low: Tensor, high: Tensor, parts: Tensor, out: int, outputs: Outputs) -> Interval:
    """Sums over weights (G, O, C, K)."""
    groups, _, each, taps = parts.shape
    positive, negative = parts.clamp(min=0).sum(-1).double(), parts.clamp(max=0).sum(-1).double()
    ends = _bounds(low.reshape(groups, each), high.reshape(groups, each), positive, negative, each * taps)
    shape = (1, out, *(1,) * (len(outputs.sizes) - 2))
    return _of_sums(given, ends[0].reshape(shape), ends[1].reshape(shape), outputs.sizes)


def _unknown_weights(given: Interval, weight: Interval, bias: Operand | None, outputs: Outputs) -> Interval:
    """Where weights are computed: as many products as a kernel has, of anything with anything."""
    sizes = weight.sizes[1:]
    if None in sizes:
        return anything(outputs.sizes)
    made = _products(given, weight, math.prod(size or 1 for size in sizes), outputs, padded=True)
    return _biased(made, bias, _along_channels(made))


def _products(x: Interval, y: Interval, terms: int | None, outputs: Outputs, *, padded: bool = False) -> Interval:
    """A sum of `terms` products of any element of x with any of y; of an unknown number for None."""
    each = mul(x=_flat(x), y=_flat(y), outputs=Outputs(types=(None,), opset=""))
    low, high = each.least, each.greatest
    if padded:
        low, high = min(low, 0.0), max(high, 0.0)
    count = math.inf if terms is None else terms
    slack = max(abs(low), abs(high)) * (terms or 0) * _slack(terms or 0)
    low = low * count - slack if low else -slack
    high = high * count + slack if high else slack
    if terms is None:  # one product at least
        low, high = (low if low < 0 else each.least), (high if high > 0 else each.greatest)
    return everywhere(low, high, outputs.sizes, nan=each.nan or x.nan or y.nan)


def _flat(x: Interval) -> Interval:
    return everywhere(x.least, x.greatest, (), nan=x.nan)


def conv_transpose(
    *, x: Operand, weight: Operand, bias: Operand | None = None, groups: int = 1, outputs: Outputs, **_: object
) -> Interval:
    """x (N, C_in, *D), weight (C_in, C_out / groups, *K): each result has some of the taps, so each may be missing."""
    given = as_interval(x)
    if not isinstance(weight, Tensor):
        return anything(outputs.sizes)
    into, each = weight.shape[:2]
    low, high = _channels(given, into, padded=True)
    parts = weight.float().reshape(groups, into // groups, each, -1).transpose(1, 2)
    made = replace(_per_channel(given, low, high, parts, each * groups, outputs), reached=False)
    return _biased(made, bias, _along_channels(made))


def _last(x: Interval, count: int) -> tuple[Tensor, Tensor]:
    """The bounds along the last axis, as (count)."""
    flat = reduced(x, range(x.low.dim() - 1))
    return flat.low.reshape(-1).expand(count), flat.high.reshape(-1).expand(count)


def linear(*, x: Operand, weight: Operand, bias: Operand | None = None, outputs: Outputs) -> Interval:
    """x (*, D_in), weight (D_out, D_in), bias (D_out)."""
    given = as_interval(x)
    if not isinstance(weight, Tensor):
        return _biased(_products(given, weight, weight.sizes[-1], outputs), bias, _along_last(outputs))
    made = _rows(given, weight.float(), outputs)
    return _biased(made, bias, _along_last(outputs))


def _along_last(outputs: Outputs) -> tuple[int, ...]:
    return (*(1,) * (len(outputs.sizes) - 1), -1)


def _rows(given: Interval, weight: Tensor, outputs: Outputs) -> Interval:
    """Products of vectors along the last axis with the rows of weight (O, K), which become the last axis."""
    low, high = _last(given, weight.shape[1])
    ball = given.ball
    if ball is None:
        ends = weighted(low[None], high[None], weight[None], weight.shape[1])
        return _of_sums(given, ends[0], ends[1], outputs.sizes)
    double = weight.double()
    magnitude = double.abs()
    ends = _centred(low[None], high[None], double[None], magnitude[None], weight.shape[1])
    made = _of_sums(given, ends[0], ends[1], outputs.sizes)
    offset, scale = (each.expand(weight.shape[1]) for each in (ball.offset, ball.scale))
    middle = double @ offset
    reach = ball.radius * (magnitude.square() @ scale.square()).sqrt()
    slack = magnitude @ offset.abs() + reach
    rounding = magnitude.sum(-1) * 2.0**-24  # of what is below the least that half has
    reach = reach + slack * (_slack(weight.shape[1]) + 2.0**-9) + rounding  # u itself was rounded, to half perhaps
    shape = _along_last(outputs)
    narrower = (
        torch.maximum(made.low, (middle - reach).reshape(shape)),
        torch.minimum(made.high, (middle + reach).reshape(shape)),
    )
    return replace(made, low=narrower[0], high=narrower[1], reached=False)


def matmul(
    *, x: Operand, y: Operand, transpose_x: bool = False, transpose_y: bool = False, outputs: Outputs
) -> Interval:
    """x @ y over the last two axes."""
    if isinstance(y, Tensor) and y.dim() == 2 and isinstance(x, Interval) and not transpose_x:
        return _rows(x, y.float() if transpose_y else y.float().mT, outputs)
    if isinstance(x, Tensor) and x.dim() == 2 and isinstance(y, Interval) and not transpose_y and len(y.sizes) >= 2:
        return _from_left(x.float().mT if transpose_x else x.float(), y, outputs)
    a, b = as_interval(x), as_interval(y)
    over = -2 if transpose_x and len(a.sizes) > 1 else -1
    if a.unit_axis == over:
        return averaged(b, outputs)
    return _products(a, b, a.sizes[over], outputs)


def _from_left(weight: Tensor, y: Interval, outputs: Outputs) -> Interval:
    """weight (M, K) @ y (*, K, N)."""
    flat = reduced(y, [axis for axis in range(y.low.dim()) if axis != y.low.dim() - 2])
    low, high = (each.reshape(-1).expand(weight.shape[1]) for each in (flat.low, flat.high))
    ends = weighted(low[None], high[None], weight[None], weight.shape[1])
    shape = (*(1,) * (len(outputs.sizes) - 2), -1, 1)
    return _of_sums(y, ends[0].reshape(shape), ends[1].reshape(shape), outputs.sizes)


def averaged(values: Interval, outputs: Outputs) -> Interval:
    """A mean of values with weights that are not negative and have the sum 1, but for rounding (a row may have 0)."""
    low, high = values.least, values.greatest
    slack = values.magnitude * 2.0**-6 if math.isfinite(values.magnitude) else 0.0
    return everywhere(min(low, 0.0) - slack, max(high, 0.0) + slack, outputs.sizes, nan=values.nan)


def einsum(*, values: tuple[Operand, ...], equation: str, outputs: Outputs) -> Interval:
    """Einstein's sum of two tensors."""
    if len(values) != 2 or "..." in equation:
        return anything(outputs.sizes)
    given, _, result = equation.replace(" ", "").partition("->")
    a, b = (as_interval(value) for value in values)
    terms = given.split(",")
    sizes: dict[str, int | None] = {}
    for letters, each in zip(terms, (a, b), strict=True):
        sizes.update(zip(letters, each.sizes, strict=True))
    counts = [size for letter, size in sizes.items() if letter not in result]
    if None in counts:
        return _products(a, b, None, outputs)
    summed = [letter for letter in sizes if letter not in result]
    if len(summed) == 1 and a.unit_axis is not None and terms[0][a.unit_axis] == summed[0]:
        return averaged(b, outputs)
    return _products(a, b, math.prod(count or 1 for count in counts), outputs)


def scaled_dot_product_attention(
    *, query: Operand, key: Operand, value: Operand, attn_mask: Operand | None = None, outputs: Outputs
) -> Interval:
    """A mean of values; not a number where a mask leaves nothing, or a product has no bounds."""
    a, b = as_interval(query), as_interval(key)
    made = averaged(as_interval(value), outputs)
    open_ = a.nan or b.nan or math.isinf(a.magnitude) or math.isinf(b.magnitude)
    masked = attn_mask is not None and _may_hide_all(as_interval(attn_mask))
    return replace(made, nan=made.nan or open_ or masked)


def _may_hide_all(mask: Interval) -> bool:
    """Whether a mask may leave nothing to see: infinite, or false, everywhere."""
    return mask.nan or mask.least == -math.inf or (mask.least >= 0 and mask.greatest <= 1)


TRANSFERS = table(conv, conv_transpose, linear, matmul, einsum, scaled_dot_product_attention)
