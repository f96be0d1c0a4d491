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

    In each, dimensions of one name have one size; others take turns, so that height and width are not always alike.
    """
    tried = list(shapes_to_try(inputs))
    found: list[Shapes] = []
    for turn in range(KINDS):
        shapes = {name: _shape(given, turn) for name, given in inputs.items()}
        if shapes not in tried and shapes not in found:
            found.append(shapes)
    return tuple(found)


def _shape(given: ImageInput | TensorInput, turn: int) -> tuple[int, ...]:
    if given.enumerated_shapes is not None:
        return tuple(given.enumerated_shapes[turn % len(given.enumerated_shapes)])
    sizes = []
    for axis, dimension in enumerate(border_sizes(given)):
        if isinstance(dimension, RangeDimension):
            between = list(_between(dimension))
            offset = turn if dimension.name else turn + axis
            sizes.append(between[offset % len(between)] if between else dimension.captured_at)
        else:
            sizes.append(dimension)
    return tuple(sizes)


def _between(dimension: RangeDimension) -> Iterator[int]:
    """Sizes inside the range: a prime, an odd one, a multiple of four and the one after the default, each once."""
    low, default = dimension.min, dimension.captured_at
    high = min(dimension.max, max(FURTHEST * default, low + 8))
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
