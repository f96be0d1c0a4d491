"""A transpose of any rank as reshapes and transposes of at most five dimensions: plain numbers, no tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

MOST = 5
"""The most dimensions of a tensor in Core ML."""

Step = tuple[list[int], list[int]]
"""Read the elements in this shape, then transpose by this permutation."""


def merged(shape: Sequence[int], perm: Sequence[int]) -> Step:
    """The same movement with as few dimensions as possible.

    Given:   (2, 1, 3, 4, 5) by (3, 4, 0, 1, 2)
    Result:  (6, 20) by (1, 0): dimensions of 1 do not matter, and those that stay neighbours are one
    """
    groups: list[list[int]] = []
    for axis in (axis for axis in perm if shape[axis] != 1):
        before = groups[-1][-1] if groups else None
        if before is not None and all(shape[between] == 1 for between in range(before + 1, axis)) and axis > before:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    order = sorted(groups)
    sizes = [math.prod(shape[axis] for axis in group) for group in order]
    return sizes or [1], [order.index(group) for group in groups] or [0]


def transposes(shape: Sequence[int], perm: Sequence[int]) -> list[Step]:
    """The steps that move elements as `perm` does; each reads what the one before has written.

    Given:   more than five dimensions that all move
    Result:  one dimension after the other to its place: (placed, between, next, rest) by (0, 2, 1, 3)
    """
    sizes, order = merged(shape, perm)
    if order == list(range(len(order))):
        return []
    if len(sizes) <= MOST:
        return [(sizes, order)]
    steps: list[Step] = []
    left = list(range(len(sizes)))
    placed = 1
    for axis in order:
        place = left.index(axis)
        between = math.prod(sizes[a] for a in left[:place])
        rest = math.prod(sizes[a] for a in left[place + 1 :])
        if between != 1:
            steps.append(([placed, between, sizes[axis], rest], [0, 2, 1, 3]))
        left.remove(axis)
        placed *= sizes[axis]
    return steps
