"""Stress inputs for a whole model: one input at a time has values that noise never has, or all have other sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

import numpy as np

from builder.artifacts.stages import Sample
from builder.data.drawing import Given, Inputs, draw_sample, picture_array
from builder.data.drawn_pictures import PICTURES, Drawing, text_page
from builder.data.fitting import in_layout
from builder.data.photographs import draw_photograph
from builder.data.sizes import sizes_between
from builder.data.sounds import draw_sound
from builder.data.streams import stream
from builder.data.stress import Draw, bounds, stress_kinds
from builder.spec.coverage import is_picture, is_sound
from builder.spec.data import Data
from builder.spec.inputs import ImageInput, TensorInput, captured_shape

MOST = 32
"""How many stress inputs there are at most, of all inputs together."""
FIRST_INDEX = 10_000
"""The number of the first stress input in the streams of random numbers, behind all other samples."""


@dataclass(frozen=True, kw_only=True)
class StressInput:
    """A stress input that is not drawn yet."""

    description: str
    """`tone in audio`, or `size 1 x 4001 of audio`."""
    make: Callable[[], Sample]
    like_real: bool = False
    """Whether an app may well give something like it: then it is judged as the samples of a check are."""


def stress_inputs(data: Data, inputs: Inputs, seed: int) -> Sequence[StressInput]:
    """Return all stress inputs in the order in which they are tried, sizes between the declared ends first.

    What is not stressed is drawn as `data`, of the kinds that come along, draws it.
    """
    captured = {name: captured_shape(given) for name, given in inputs.items()}
    found: list[StressInput] = []
    for shapes in sizes_between(inputs):
        make = partial(draw_sample, data, inputs, seed, FIRST_INDEX + len(found), shapes)
        found.append(StressInput(description=_sizes(shapes, captured), make=make))
    turns = zip_longest(*(_of_input(name, given, seed) for name, given in inputs.items()))
    for name, kind, draw in (entry for turn in turns for entry in turn if entry is not None):
        if len(found) == MOST:
            break
        index = FIRST_INDEX + len(found)
        make = partial(_with_one, data, inputs, seed, index, name, draw)
        found.append(StressInput(description=f"{kind} in {name}", make=make, like_real=kind in SHAPED_LIKE_SOUNDS))
    return found


SHAPED_LIKE_PICTURES: Mapping[str, Drawing] = {"text": text_page, "photograph": partial(draw_photograph, 0)}
"""What arrays with the shape of a picture are given too."""

SHAPED_LIKE_SOUNDS: Mapping[str, int] = {"a chord": 1, "speech": 0, "a note": 3}
"""What arrays with the shape of a sound are given too: the places among the kinds of `builder/data/sounds.py`."""
RATE, LOUDEST = 16_000, 0.5
"""Samples a second, and the largest value where the range is wider than that of a sound."""

Entry = tuple[str, str, Callable[[int], Given]]
"""The input, what it is called, and what draws it by its index."""


def _of_input(name: str, given: ImageInput | TensorInput, seed: int) -> Iterator[Entry]:
    shape = captured_shape(given)
    if isinstance(given, ImageInput):
        for kind, drawing in PICTURES.items():
            yield name, kind, partial(_picture, drawing, name, given, seed)
        return
    for kind, drawing in SHAPED_LIKE_PICTURES.items() if is_picture(given) else ():
        yield name, kind, partial(_picture_array, drawing, name, given, seed)
    for kind, place in SHAPED_LIKE_SOUNDS.items() if is_sound(given) else ():
        yield name, kind, partial(_sound, place, name, given, shape, seed)
    for kind, draw in stress_kinds(name, given).items():
        yield name, kind, partial(_array, draw, name, given, shape, seed)


def _picture(drawing: Drawing, name: str, given: ImageInput, seed: int, index: int) -> Given:
    shape = captured_shape(given)
    return in_layout(drawing((shape[3], shape[2]), stream(seed, index, name)), given.color_layout)


def _picture_array(drawing: Drawing, name: str, given: TensorInput, seed: int, index: int) -> Given:
    shape = captured_shape(given)
    return picture_array(drawing((shape[3], shape[2]), stream(seed, index, name)), given, shape)


def _sound(place: int, name: str, given: TensorInput, shape: tuple[int, ...], seed: int, index: int) -> Given:
    """Time along the longest axis of a waveform whose range goes below zero, and along the last one of bands."""
    generator = stream(seed, index, name)
    low, high = bounds(given)
    if low >= 0:
        share = (draw_sound(given, shape, place, RATE, generator) - low) / (high - low)  # of eight decades
        return (low + (high - low) * 10 ** (8 * (share - 1))).astype(given.dtype)
    axis = int(np.argmax(shape))
    moved = (*shape[:axis], *shape[axis + 1 :], shape[axis])
    flat = (int(np.prod(moved[:-1])), 1, moved[-1])  # two long axes would be bands
    sound = np.moveaxis(draw_sound(given, flat, place, RATE, generator).reshape(moved), -1, axis)
    loudest = min(LOUDEST, min(-low, high) / 2)
    return (sound * (loudest / max(float(np.abs(sound).max()), 1e-9))).astype(given.dtype)


def _array(draw: Draw, name: str, given: TensorInput, shape: tuple[int, ...], seed: int, index: int) -> Given:
    return draw(given, shape, stream(seed, index, name))


def _with_one(data: Data, inputs: Inputs, seed: int, index: int, name: str, draw: Callable[[int], Given]) -> Sample:
    captured = {other: captured_shape(given) for other, given in inputs.items()}
    return draw_sample(data, inputs, seed, index, captured, fixed={name: draw(index)})


def _sizes(shapes: dict[str, tuple[int, ...]], captured: dict[str, tuple[int, ...]]) -> str:
    changed = {name: shape for name, shape in shapes.items() if shape != captured[name]}
    return "size " + ", ".join(f"{' x '.join(map(str, shape))} of {name}" for name, shape in changed.items())
