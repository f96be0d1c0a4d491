"""Padding that MIL's pad lacks: round the other end, by less than nothing, in three dimensions by reflection."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from builder.backends.coreml.lowerings.flexible_sizes import is_open, pad_by_sizes
from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import fixed_size, is_bool, is_float, numpy_dtype, promoted, take

_NUMPY: dict[str, Literal["reflect", "edge"]] = {"reflect": "reflect", "replicate": "edge"}
"""numpy's names of torch's modes."""


def pad(mb: Builder, x: Var, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Var:
    """Pad one axis after the other, from the last on, with entries of the axis itself; a negative width cuts off."""
    if is_open(pad):
        return pad_by_sizes(mb, x, pad, mode, value or 0.0)
    if mode == "constant":
        return _cut_and_padded(mb, x, pad, value or 0.0)
    if is_open(x.shape[x.rank - len(pad) // 2 :]):
        return pad_by_sizes(mb, x, pad, mode, 0.0)
    import numpy as np

    for index in range(len(pad) // 2):
        axis, before, after = -1 - index, pad[2 * index], pad[2 * index + 1]
        length = fixed_size(x, axis, f"{mode} padding")
        widths = (max(before, 0), max(after, 0))
        begin, cut = max(-before, 0), max(-after, 0)
        if mode == "circular":  # goes round what is left after the cut
            places = np.pad(np.arange(length)[begin : length - cut], widths, mode="wrap")
        else:
            places = np.pad(np.arange(length), widths, mode=_NUMPY[mode])
            places = places[begin : len(places) - cut]
        x = _joined(mb, x, axis, places.tolist())
    return x


def _cut_and_padded(mb: Builder, x: Var, pad: Sequence[int], value: float) -> Var:
    """Cut off where the width is negative, then pad with `value` where it is positive; any size of an axis will do."""
    if not is_float(x) and is_open(x.shape):
        return pad_by_sizes(mb, x, pad, "constant", value)
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    widths = [(0, 0)] * (x.rank - len(pairs)) + pairs[::-1]  # torch begins with the last axis, MIL with the first
    x = mb.slice_by_index(
        x=x,
        begin=[max(-before, 0) for before, _ in widths],
        end=[min(after, 0) for _, after in widths],
        begin_mask=[before >= 0 for before, _ in widths],
        end_mask=[after >= 0 for _, after in widths],
    )
    added = [max(width, 0) for pair in widths for width in pair]
    if not any(added):
        return x
    if is_float(x):
        x, constant = promoted(x, value)
        return mb.pad(x=x, pad=added, mode="constant", constant_val=constant)
    return _joined_with_constants(mb, x, added, value)


def _joined_with_constants(mb: Builder, x: Var, added: Sequence[int], value: float) -> Var:
    """Integers and booleans, which MIL's pad takes through floats: joined with blocks of `value`, axis by axis."""
    import numpy as np

    for axis, (before, after) in enumerate(zip(added[::2], added[1::2], strict=True)):
        if not before and not after:
            continue
        sizes = [int(size) for size in x.shape]
        blocks = [np.full([*sizes[:axis], width, *sizes[axis + 1 :]], value) for width in (before, after)]
        first, last = ([block.astype(numpy_dtype(x))] if block.size else [] for block in blocks)
        x = _concatenated(mb, [*first, x, *last], axis, is_bool(x))
    return x


def _concatenated(mb: Builder, parts: Sequence[Var], axis: int, of_booleans: bool) -> Var:
    if not of_booleans:
        return mb.concat(values=list(parts), axis=axis)
    whole = [mb.cast(x=part, dtype="int32") for part in parts]
    return mb.cast(x=mb.concat(values=whole, axis=axis), dtype="bool")


def _joined(mb: Builder, x: Var, axis: int, places: Sequence[int]) -> Var:
    """The entries at `places`, as slices that follow each other, unless there would be too many for that."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    if len(runs) > _MOST_SLICES:
        return take(mb, x, axis, places)
    parts = [take(mb, x, axis, run) for run in runs]
    return mb.concat(values=parts, axis=axis) if len(parts) > 1 else parts[0]


_MOST_SLICES = 3
"""Slices stay on the Neural Engine, where a gather may not: enough for what goes round."""


def _cuts_off(pad: Sequence[int]) -> bool:
    return is_open(pad) or any(width < 0 for width in pad)


def _cuts_off_or_is_whole(x: Var, pad: Sequence[int]) -> bool:
    return _cuts_off(pad) or not is_float(x)


def _differs(x: Var, pad: Sequence[int], mode: str = "constant") -> bool:
    """Whether MIL's pad cannot: of floats alone, without a cut, by entries of the axis in the last two dimensions."""
    return (
        not is_float(x)
        or _cuts_off(pad)
        or mode == "circular"
        or (mode != "constant" and any(width != 0 for width in pad[4:]))
    )


def constant_pad_nd(mb: Builder, x: Var, pad: Sequence[int], value: float | None = None) -> Var:
    """As `pad` with a constant."""
    if is_open(pad):
        return pad_by_sizes(mb, x, pad, "constant", value or 0.0)
    return _cut_and_padded(mb, x, pad, value or 0.0)


def _of_mode(mode: str, mb: Builder, x: Var, padding: Sequence[int]) -> Var:
    return pad(mb, x, padding, mode)


PADDING = (
    Lowering(
        operator="pad",
        lower=pad,
        upstream_gap="circular padding, widths below 0 or by a size, and reflection and repetition in three dimensions",
        applies=_differs,
    ),
    Lowering(
        operator="constant_pad_nd",
        lower=constant_pad_nd,
        upstream_gap="negative widths, integers as they are, and widths that follow from a size",
        applies=_cuts_off_or_is_whole,
    ),
    Lowering(operator="_pad_circular", lower=partial(_of_mode, "circular")),
    Lowering(operator="reflection_pad3d", lower=partial(_of_mode, "reflect")),
    Lowering(operator="replication_pad3d", lower=partial(_of_mode, "replicate")),
)
