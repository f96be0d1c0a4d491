"""The smallest and largest number of each value of a program, over calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from builder.errors import ConversionError

Range = Mapping[str, np.floating]
"""`rmin` and `rmax` of a value over all samples, as coremltools' passes take them."""

Sample = TypeVar("Sample")

MASKS = 1e4
"""Values so large hide what they are added to: 8 bits of their range would hide everything."""


def measure_ranges(
    predict: Callable[[Sample], Mapping[str, Any]], samples: Sequence[Sample], advance: Callable[[int], None]
) -> dict[str, Range]:
    """The smallest and the largest number of every value, over all samples; `predict` returns all values by name.

    Values that are not numbers are left out, and those that are infinite for some sample, as masks are: they have no
    range. Raises ConversionError for NaN, of which no program computes anything.
    """
    ranges: dict[str, Range] = {}
    endless: set[str] = set()
    for sample in samples:
        for name, value in predict(sample).items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size and name not in endless:
                ranges[name] = _widened(ranges.get(name), value, name)
                if np.isinf([*ranges[name].values()]).any():
                    endless.add(name)
        advance(1)
    return {name: known for name, known in ranges.items() if name not in endless}


def why_no_scale(name: str, ranges: Mapping[str, Range]) -> str | None:
    """Why a value has no scale of 8 bits; None where it has one."""
    known = ranges.get(name)
    if known is None:
        return "its values are integers, infinite, or were never computed for the calibration data"
    if max(abs(float(end)) for end in known.values()) >= MASKS:
        ends = f"{known['rmin']:g} to {known['rmax']:g}"
        return f"it takes or gives {ends}, as masks are, of which 8 bits hold nothing but the ends"
    return None


def _widened(known: Range | None, value: np.ndarray, name: str) -> Range:
    least, largest = np.float32(value.min()), np.float32(value.max())
    if np.isnan([least, largest]).any():
        raise ConversionError(
            f"{name} is {least:g} to {largest:g} for a sample of the calibration data, and has no scale",
            code="B0410",
            hint="compute it in float32 (`precision: mixed`), or look for what is wrong with the sample",
        )
    if known is None:
        return {"rmin": least, "rmax": largest}
    return {"rmin": min(known["rmin"], least), "rmax": max(known["rmax"], largest)}


def join_ranges(ranges: dict[str, Range], joined: Iterable[Iterable[str]]) -> None:
    """Give values that are joined (the inputs and the output of a concat) one range, so that hardware need not rescale.

    Groups that share a value are one.
    """
    groups: list[set[str]] = []
    for each in joined:
        names = set(each) & ranges.keys()
        meeting = [group for group in groups if group & names]
        groups = [group for group in groups if not group & names] + [names.union(*meeting)]
    for group in filter(None, groups):
        least = min(ranges[name]["rmin"] for name in group)
        largest = max(ranges[name]["rmax"] for name in group)
        ranges.update({name: {"rmin": least, "rmax": largest} for name in group})
