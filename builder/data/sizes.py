"""Shapes between the ends of what an input declares: odd, prime and round sizes, where branches on sizes show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from builder.spec.inputs import ImageInput, RangeDimension, TensorInput, border_sizes, shapes_to_try

Inputs = Mapping[str, ImageInput | TensorInput]
Shapes = dict[str, tuple[int, ...]]

FURTHEST = 2
"""Sizes between the ends are at most this many times the captured one: a check is not a benchmark."""
KINDS = 4
"""As many shapes are tried as `_between` has kinds of sizes."""


def sizes_between(inputs: Inputs) -> tuple[Shapes, ...]:
    """By input name, shapes that `shapes_to_try` leaves out, of each kind of `_between`; nothing where none is.

    In each, dimensions of one name have one size. Others take turns, so that height and width, or two inputs, are not
    always alike, and where there are several every second one is smallest and the rest large, and the other way round.
    """
    tried, found = list(shapes_to_try(inputs)), list[Shapes]()
    free = _free(inputs)
    turns = KINDS if len(free) < 2 else KINDS + len(ENDS)
    for turn in range(turns):
        shapes = {name: _shape(name, given, turn, free) for name, given in inputs.items()}
        if shapes not in tried and shapes not in found:
            found.append(shapes)
    return tuple(found)


Free = str | tuple[str, int]
"""A size that the app chooses: its name, or the input and axis."""


def _free(inputs: Inputs) -> dict[Free, int]:
    """All such sizes, numbered."""
    keys = (
        dimension.name or (name, axis)
        for name, given in inputs.items()
        for axis, dimension in enumerate(given.shape)
        if isinstance(dimension, RangeDimension)
    )
    return {key: number for number, key in enumerate(dict.fromkeys(keys))}


def _shape(name: str, given: ImageInput | TensorInput, turn: int, free: Mapping[Free, int]) -> tuple[int, ...]:
    if given.enumerated_shapes is not None:
        return tuple(given.enumerated_shapes[turn % len(given.enumerated_shapes)])
    return tuple(
        _size(dimension, turn, free[dimension.name or (name, axis)])
        if isinstance(dimension, RangeDimension)
        else dimension
        for axis, dimension in enumerate(border_sizes(given))
    )


def _size(dimension: RangeDimension, turn: int, number: int) -> int:
    if turn >= KINDS:
        return ENDS[(turn + number) % len(ENDS)](dimension)
    between = list(_between(dimension))
    return between[(turn + number) % len(between)] if between else dimension.captured_at


def _smallest(dimension: RangeDimension) -> int:
    return dimension.min


def _large(dimension: RangeDimension) -> int:
    """The largest, or a size that is far from the captured one."""
    return min(dimension.max, max(FURTHEST * dimension.captured_at, dimension.min + 8))


ENDS = (_smallest, _large)


def _between(dimension: RangeDimension) -> Iterator[int]:
    """Sizes inside the range: a prime, an odd one, a multiple of four and the one after the default, each once."""
    low, default = dimension.min, dimension.captured_at
    high = _large(dimension)
    inside = [size for size in range(low + 1, high) if size != default] or [s for s in (low, high) if s != default]
    seen: set[int] = set()
    middle = math.sqrt(low * high)
    for wanted in (_is_prime, _is_odd, lambda size: size % 4 == 0, lambda size: size == default + 1):
        fitting = sorted((size for size in inside if wanted(size) and size not in seen), key=lambda s: abs(s - middle))
        if fitting:
            seen.add(fitting[0])
            yield fitting[0]


def _is_odd(size: int) -> bool:
    return size % 2 == 1


def _is_prime(size: int) -> bool:
    return size > 1 and all(size % factor for factor in range(2, math.isqrt(size) + 1))
