"""Bounds of operators whose outputs hold values of their inputs: at other places, or some of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from coreml_runtime.intervals.context import Operand, Outputs, table
from coreml_runtime.intervals.interval import (
    MOST,
    Interval,
    Sizes,
    as_interval,
    everywhere,
    hull,
    make,
    reduced,
    widened,
)


def whole(x: Interval, sizes: Sizes) -> Interval:
    """One pair of bounds for all of x, in a tensor of other sizes; elements may occur several times."""
    return replace(everywhere(x.least, x.greatest, sizes, nan=x.nan), reached=x.reached)


def placed(x: Interval, low: Tensor, high: Tensor, sizes: Sizes, *, once: bool = True) -> Interval:
    """Bounds of the same elements elsewhere; `once` says that each occurs once at most."""
    made = make(low, high, sizes, nan=x.nan)
    return replace(made, reached=x.reached, sources=x.sources if once else None)


def _both(x: Interval, function: Callable[[Tensor], Tensor], sizes: Sizes, *, once: bool = True) -> Interval:
    return placed(x, function(x.low), function(x.high), sizes, once=once)


def unknown_places(
    name: str, operands: Mapping[str, Sequence[Interval]], outputs: Outputs
) -> tuple[Interval, ...] | None:
    """What an operator gives that moves values to places which are computed; None for others."""
    held = [part for argument in _VALUES.get(name, ()) for part in operands.get(argument, ())]
    if not held:
        return None
    return tuple(hull(held, () if each is None else each.shape) for each in outputs.types)


_VALUES = {
    **dict.fromkeys(
        (
            "slice_by_index", "slice_by_size", "tile", "transpose", "split", "gather", "reverse", "expand_dims",
            "squeeze",
        ),
        ("x",),
    ),
    "concat": ("values",),
    "stack": ("values",),
}  # fmt: skip
"""The arguments whose values an operator gives, and no others."""


def reshape(*, x: Interval, outputs: Outputs, **_: object) -> Interval:
    """x with another shape; axes that stay together keep their bounds apart."""
    shape = _regrouped(x.low.shape, x.sizes, outputs.sizes)
    if shape is None:
        return replace(whole(x, outputs.sizes), sources=x.sources)
    before, after = shape
    made = _both(x, lambda bound: bound.expand(before).reshape(after), outputs.sizes)
    same = bool(x.sizes) and bool(outputs.sizes) and x.sizes[-1] == outputs.sizes[-1]
    return replace(made, unit_axis=x.unit_axis if same and x.unit_axis == -1 else None, ball=x.ball if same else None)


def _regrouped(kept: Sequence[int], old: Sizes, new: Sizes) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """What bounds (kept) of a tensor (old) expand to, and what shape they have then in one of the sizes `new`.

    Groups of axes with the same product on both sides stay apart; one that is uniform before is so afterwards.
    None where a size is not known, or too much would be expanded.
    """
    if None in old or None in new or 0 in old:
        return None
    before: list[int] = []
    after: list[int] = []
    i = j = 0
    while i < len(old) or j < len(new):
        first, second = i, j
        left = right = 1
        while True:
            if left == right and (i > first or j > second):
                break
            if left <= right and i < len(old):
                left, i = left * (old[i] or 1), i + 1
            elif j < len(new):
                right, j = right * (new[j] or 1), j + 1
            else:
                break
        if all(size == 1 for size in kept[first:i]):
            before += [1] * (i - first)
            after += [1] * (j - second)
        else:
            before += [size or 1 for size in old[first:i]]
            after += [size or 1 for size in new[second:j]]
    if math.prod(before) > 16 * MOST or math.prod(before) != math.prod(after):
        return None
    return tuple(before), tuple(after)


def transpose(*, x: Interval, perm: Sequence[int], outputs: Outputs) -> Interval:
    """Axis i of the result is axis perm[i] of x."""
    rank = len(x.sizes)
    order = [axis % rank for axis in perm] if rank else []
    made = _both(x, lambda bound: bound.permute(order), outputs.sizes)
    last_stays = bool(order) and order[-1] == rank - 1
    unit = None if x.unit_axis is None else order.index(x.unit_axis % rank) - rank
    return replace(made, unit_axis=unit, ball=x.ball if last_stays else None)


def squeeze(*, x: Interval, outputs: Outputs, **_: object) -> Interval:
    """Axes of the size 1 come or go."""
    return reshape(x=x, outputs=outputs)


Masks = tuple[Sequence[bool] | None, Sequence[bool] | None, Sequence[bool] | None]
"""Which axes have an open begin, an open end, or are squeezed."""


def _ranges(
    x: Interval, begin: Sequence[int], end: Sequence[int], masks: Masks, stride: Sequence[int] | None
) -> list[slice | None]:
    """What each axis keeps; None where it runs backwards."""
    begin_mask, end_mask, squeeze_mask = masks
    kept: list[slice | None] = []
    for axis in range(len(x.sizes)):
        step = stride[axis] if stride else 1
        first = None if begin_mask and begin_mask[axis] else begin[axis]
        last = None if end_mask and end_mask[axis] else end[axis]
        if squeeze_mask and squeeze_mask[axis]:
            first, last, step = first or 0, ((first or 0) + 1) or None, 1
        kept.append(slice(first, last, step) if step > 0 else None)
    return kept


def slice_by_index(
    *, x: Interval, begin: Sequence[int], end: Sequence[int], stride: Sequence[int] | None = None,
    begin_mask: Sequence[bool] | None = None, end_mask: Sequence[bool] | None = None,
    squeeze_mask: Sequence[bool] | None = None, outputs: Outputs,
) -> Interval:  # fmt: skip
    """x[begin:end:stride, …]; a squeezed axis goes."""
    kept = _ranges(x, begin, end, (begin_mask, end_mask, squeeze_mask), stride)
    squeezed = [axis for axis, masked in enumerate(squeeze_mask or ()) if masked]
    flat = reduced(x, [axis for axis, each in enumerate(kept) if each is None])

    def taken(bound: Tensor) -> Tensor:
        part = bound[tuple(each if each and bound.shape[axis] != 1 else slice(None) for axis, each in enumerate(kept))]
        return part.reshape([size for axis, size in enumerate(part.shape) if axis not in squeezed])

    if x.low.numel() == 1 or None in x.sizes or 0 in taken(flat.low).shape:
        return replace(whole(x, outputs.sizes), sources=x.sources)
    return _both(flat, taken, outputs.sizes)


def slice_by_size(*, x: Interval, begin: Sequence[int], size: Sequence[int], outputs: Outputs) -> Interval:
    """size[i] elements from begin[i] along each axis."""
    low, high = x.low, x.high
    for axis, (first, count) in enumerate(zip(begin, size, strict=True)):
        if low.shape[axis] != 1:
            start = first % low.shape[axis]
            length = low.shape[axis] - start if count == -1 else count
            low, high = low.narrow(axis, start, length), high.narrow(axis, start, length)
    return (
        replace(whole(x, outputs.sizes), sources=x.sources) if not low.numel() else placed(x, low, high, outputs.sizes)
    )


def split(
    *, x: Interval, num_splits: int | None = None, split_sizes: Sequence[int] | None = None, axis: int, outputs: Outputs
) -> tuple[Interval, ...]:
    """Parts along an axis."""
    del num_splits, split_sizes
    sizes = [() if each is None else each.shape for each in outputs.types]
    place = axis % len(x.sizes)
    if x.low.shape[place] == 1 or any(size[place] is None for size in sizes):
        flat = reduced(x, [place])
        return tuple(placed(x, flat.low, flat.high, size) for size in sizes)
    counts = [size[place] or 0 for size in sizes]
    low, high = torch.split(x.low, counts, place), torch.split(x.high, counts, place)
    return tuple(placed(x, *each) for each in zip(low, high, sizes, strict=True))


def tile(*, x: Interval, reps: Sequence[int], outputs: Outputs) -> Interval:
    """x repeated."""
    flat = reduced(x, [axis for axis, count in enumerate(reps) if count != 1])
    return placed(x, flat.low, flat.high, outputs.sizes, once=False)


def pad(
    *, x: Interval, pad: Sequence[int], mode: str = "constant", constant_val: float = 0.0, outputs: Outputs
) -> Interval:
    """Padded along the last axes, with a constant or with values of its own."""
    count = len(pad) // 2
    touched = [len(x.sizes) - count + i for i in range(count) if any(pad[2 * i : 2 * i + 2])]
    flat = reduced(x, touched)
    low, high = flat.low, flat.high
    if mode == "constant" and touched:
        low, high = low.clamp(max=constant_val), high.clamp(min=constant_val)
    return placed(x, low, high, outputs.sizes, once=False)


def any_of(*, x: Operand, outputs: Outputs, **_: object) -> Interval:
    """Some values of x, anywhere."""
    return whole(as_interval(x), outputs.sizes)


def resized(*, x: Interval, outputs: Outputs, **_: object) -> Interval:
    """Means of values of x, channel by channel."""
    flat = reduced(x, range(max(len(x.sizes) - 2, 0), len(x.sizes)))
    made = placed(x, flat.low, flat.high, outputs.sizes, once=False)
    return widened(replace(made, nan=made.nan or math.isinf(x.magnitude)), 2.0**-16)


TRANSFERS = {
    **table(reshape, transpose, squeeze, slice_by_index, slice_by_size, split, tile, pad),
    "expand_dims": squeeze,
    **dict.fromkeys(
        (
            "reshape_like", "reverse", "reverse_sequence", "sliding_windows", "depth_to_space", "space_to_depth",
            "batch_to_space", "pixel_shuffle", "pixel_unshuffle", "gather_along_axis", "gather_nd", "crop", "flatten2d",
            "upsample_nearest_neighbor", "resize_nearest_neighbor",
        ),
        any_of,
    ),
    **dict.fromkeys(("upsample_bilinear", "resize_bilinear", "resize"), resized),
}  # fmt: skip
