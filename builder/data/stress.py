"""Stress inputs: values that noise never has, within what an input declares, those that find most first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from builder.data.masks import prefix_of_ones
from builder.data.noise import draw_array
from builder.spec.coverage import is_binary, is_mask
from builder.spec.inputs import TensorInput

USUAL = (-4.0, 4.0)
"""The range of floats that declare none: their examples are normally distributed, and 6 in 100,000 are beyond."""

EDGES = tuple(2**bits + step for bits in (11, 15, 16, 24) for step in (-1, 0, 1))
"""Where integers stop being exact in half precision, in 16 bits and in single precision."""

Draw = Callable[[TensorInput, tuple[int, ...], np.random.Generator], np.ndarray]


def bounds(given: TensorInput) -> tuple[float, float]:
    """The least and the greatest value that the app may give, as the recipe declares it; of integers both inclusive.

    `low` is 0 for integers unless given. Floats with one bound reach one away from 0 or from it, as noise does.
    """
    if given.dtype == "int32":
        assert given.high is not None, "compatibility demands `high`"
        return int(given.low or 0), int(given.high) - 1
    if given.low is None and given.high is None:
        return USUAL
    low = given.low if given.low is not None else min(0.0, (given.high or 0.0) - 1.0)
    return low, given.high if given.high is not None else max(1.0, low + 1.0)


def stress_kinds(name: str, given: TensorInput) -> Mapping[str, Draw]:
    """How to draw each stress input of an array, by what it is called in reports."""
    if is_mask(name, given):
        return MASKS
    if is_binary(given):
        return {**MASKS, "noise": draw_array}
    if given.dtype != "int32":
        return FLOATS
    low, high = bounds(given)
    edges = {"edges of 11, 15, 16 and 24 bits": _edges} if _edges_between(low, high) else {}
    return {**edges, **INTEGERS}


def _as(given: TensorInput, values: np.ndarray) -> np.ndarray:
    """Values in the input's range and dtype."""
    low, high = bounds(given)
    return np.ascontiguousarray(np.clip(values, low, high)).astype(given.dtype)


def _middle(given: TensorInput) -> float:
    """Zero where it is in the range, else the least value."""
    low, high = bounds(given)
    return 0.0 if low <= 0 <= high else low


def _reach(given: TensorInput) -> float:
    """How far the range goes from its middle."""
    low, high = bounds(given)
    return max(high - _middle(given), _middle(given) - low)


def _constant(share: float) -> Draw:
    """The value at `share` (0 to 1) of the range, everywhere."""

    def draw(given: TensorInput, shape: tuple[int, ...], _: np.random.Generator) -> np.ndarray:
        low, high = bounds(given)
        value = low + share * (high - low)
        return _as(given, np.full(shape, np.floor(value) if given.dtype == "int32" else value))

    return draw


def _zeros(given: TensorInput, shape: tuple[int, ...], _: np.random.Generator) -> np.ndarray:
    return _as(given, np.full(shape, _middle(given)))


def _level(decades: int) -> Draw:
    """Noise around the middle, `decades` below the range."""

    def draw(given: TensorInput, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
        return _as(given, _middle(given) + generator.standard_normal(shape) * _reach(given) / 4 * 10.0**-decades)

    return draw


def _offset(given: TensorInput, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Small noise on nine tenths of the range: what mean and variance cancel."""
    value = _middle(given) + 0.9 * (bounds(given)[1] - _middle(given))
    return _as(given, value + generator.standard_normal(shape) * _reach(given) * 0.01)


def _line(shape: tuple[int, ...]) -> tuple[int, np.ndarray]:
    """The longest axis, and the places along it from 0 to 1, to be broadcast over `shape`."""
    axis = max(range(len(shape)), key=lambda index: (shape[index], index))
    size = shape[axis]
    places = np.arange(size) / max(1, size - 1)
    return size, places.reshape([-1 if index == axis else 1 for index in range(len(shape))])


def _ramp(given: TensorInput, shape: tuple[int, ...], _: np.random.Generator) -> np.ndarray:
    low, high = bounds(given)
    return _as(given, np.broadcast_to(low + _line(shape)[1] * (high - low), shape))


def _step(given: TensorInput, shape: tuple[int, ...], _: np.random.Generator) -> np.ndarray:
    low, high = bounds(given)
    return _as(given, np.broadcast_to(np.where(_line(shape)[1] < 0.5, low, high), shape))


def _tone(share: float) -> Draw:
    """A sine along the longest axis, of `share` of the sampling rate: full scale, or as wide as the range is."""

    def draw(given: TensorInput, shape: tuple[int, ...], _: np.random.Generator) -> np.ndarray:
        low, high = bounds(given)
        size, places = _line(shape)
        wave = np.sin(2 * np.pi * share * places * max(1, size - 1))
        return _as(given, np.broadcast_to((low + high) / 2 + wave * (high - low) / 2, shape))

    return draw


def _alternating(given: TensorInput, shape: tuple[int, ...], _: np.random.Generator) -> np.ndarray:
    low, high = bounds(given)
    return _as(given, np.where(np.indices(shape).sum(0) % 2 == 0, low, high))


def _impulse(given: TensorInput, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    values = np.full(shape, _middle(given))
    values.flat[int(generator.integers(values.size))] = bounds(given)[1]
    return _as(given, values)


def _sparse(given: TensorInput, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    few = generator.random(shape) < 0.03
    return _as(given, np.where(few, draw_array(given, shape, generator), _middle(given)))


def _repeated(given: TensorInput, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Four values, over and over."""
    size = int(np.prod(shape))
    return _as(given, np.resize(draw_array(given, (4,), generator), size).reshape(shape))


def _ends(given: TensorInput, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    return _as(given, generator.choice(np.array(bounds(given)), size=shape))


def _padded(given: TensorInput, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Drawn values in the first half of the last axis, the middle of the range behind."""
    values = draw_array(given, shape, generator).astype(np.float64)
    values[..., max(1, shape[-1] // 2) :] = _middle(given)
    return _as(given, values)


def _loud(given: TensorInput, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Noise over the whole range."""
    return _as(given, generator.uniform(*bounds(given), size=shape))


def _edges_between(low: float, high: float) -> list[int]:
    return [value for edge in EDGES for value in (edge, -edge) if low <= value <= high]


def _edges(given: TensorInput, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    low, high = bounds(given)
    return _as(given, generator.choice(np.array([*_edges_between(low, high), low, high]), size=shape))


def _prefix(share: float) -> Draw:
    return lambda given, shape, _: prefix_of_ones(given, shape, share)


FLOATS: Mapping[str, Draw] = {
    "zeros": _zeros,
    "greatest value": _constant(1.0),
    "least value": _constant(0.0),
    "small noise on a large value": _offset,
    "tone": _tone(0.05),
    "level 1/100": _level(2),
    "noise over the range": _loud,
    "impulse": _impulse,
    "ramp": _ramp,
    "step": _step,
    "both ends at random": _ends,
    "sparse": _sparse,
    "level 1/1000": _level(3),
    "alternating ends": _alternating,
    "repeated values": _repeated,
    "padded": _padded,
    "level 1/10": _level(1),
    "low tone": _tone(0.003),
    "high tone": _tone(0.4),
    "level 1/10000": _level(4),
    "three quarters": _constant(0.75),
    "one quarter": _constant(0.25),
}
INTEGERS: Mapping[str, Draw] = {
    "greatest value": _constant(1.0),
    "least value": _constant(0.0),
    "padded": _padded,
    "ramp": _ramp,
    "both ends at random": _ends,
    "repeated values": _repeated,
    "one value": _constant(0.5),
    "sparse": _sparse,
    "alternating ends": _alternating,
    "step": _step,
}
MASKS: Mapping[str, Draw] = {
    "ones": _prefix(1.0),
    "one 1": _prefix(0.0),
    "half ones": _prefix(0.5),
    "ones but the last": lambda given, shape, _: prefix_of_ones(given, shape, 1 - 1 / shape[-1]),
    "a few ones": _prefix(0.2),
}
