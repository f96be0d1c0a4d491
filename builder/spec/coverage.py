"""For which inputs a recipe has data, and for which only noise stands in: what they get in an app nobody knows then."""

from __future__ import annotations

import math

from builder.spec import BuildSpec
from builder.spec.checks import AccuracyCheck, ParityCheck
from builder.spec.data import (
    Data,
    NoiseData,
    PhotographsData,
    SoundsData,
    TablesData,
    TextBoxesData,
    TextIdsData,
)
from builder.spec.inputs import ImageInput, Input, TensorInput, captured_shape

LEAST_SOUND, MOST_CHANNELS, LEAST_BANDS = 4000, 8, 16
"""A quarter of a second of speech, which few vectors of features are as long as; channels or rows; bands of energy."""


def default_data(spec: BuildSpec) -> PhotographsData | NoiseData:
    """Photographs where the model takes a picture, noise where it does not."""
    images = any(isinstance(given, ImageInput) for given in spec.artifact_inputs.values())
    return PhotographsData(kind="photographs") if images else NoiseData(kind="noise")


def data_of(check: ParityCheck | AccuracyCheck, spec: BuildSpec) -> Data:
    """The data of a check, or what stands in for it."""
    data = check.data or default_data(spec)
    assert not isinstance(data, str), "named data stands in the places that refer to it"
    return data


def covers(data: Data, name: str, given: ImageInput | TensorInput) -> bool:
    """Whether data that comes along has more than noise for an input; a user's own has values for all."""
    is_floats = isinstance(given, TensorInput) and given.dtype != "int32" and not is_mask(name, given)
    match data:
        case NoiseData():
            return False
        case SoundsData():
            return is_floats
        case TextIdsData():
            return is_mask(name, given) or (isinstance(given, TensorInput) and given.dtype == "int32")
        case TablesData():
            return isinstance(given, TensorInput)
        case TextBoxesData():
            return isinstance(given, ImageInput) or is_picture(given)
        case PhotographsData():
            return isinstance(given, ImageInput)
    return True


def synthetic_inputs(check: ParityCheck | AccuracyCheck, spec: BuildSpec) -> tuple[str, ...]:
    """The array inputs for which a check has no data."""
    data = data_of(check, spec)
    arrays = {name: given for name, given in spec.artifact_inputs.items() if isinstance(given, TensorInput)}
    return tuple(name for name, given in arrays.items() if not covers(data, name, given))


def uncovered_inputs(spec: BuildSpec) -> tuple[str, ...]:
    """The array inputs for which no check that executes the artifact has data, and whose recipe does not accept that.

    Empty where no check executes it: then nothing at all is proven, which is said elsewhere.
    """
    checks = [check for check in spec.checks.values() if isinstance(check, ParityCheck | AccuracyCheck)]
    if any(isinstance(check, ParityCheck) and check.accept_synthetic for check in checks):
        return ()
    missing = [set(synthetic_inputs(check, spec)) for check in checks]
    return tuple(name for name in spec.artifact_inputs if missing and all(name in names for names in missing))


def is_binary(given: ImageInput | TensorInput) -> bool:
    """Whether an input takes the integers 0 and 1 alone."""
    return isinstance(given, TensorInput) and given.dtype == "int32" and (given.low or 0) == 0 and given.high == 2


def is_mask(name: str, given: ImageInput | TensorInput) -> bool:
    """Whether an input is a mask: its name says so, and it takes integers of 0 and 1, or floats from 0 to 1."""
    if "mask" not in name.lower() or not isinstance(given, TensorInput):
        return False
    return is_binary(given) or (given.dtype != "int32" and given.low == 0 and given.high == 1)


def is_picture(given: ImageInput | TensorInput) -> bool:
    """Whether an array has the shape of a picture: floats of (1, 3 or 1, H, W)."""
    shape = captured_shape(given)
    return (
        isinstance(given, TensorInput) and given.dtype != "int32" and len(shape) == 4 and shape[:2] in ((1, 3), (1, 1))
    )


def is_sound(given: ImageInput | TensorInput) -> bool:
    """Whether an array has the shape of a sound: floats with one long axis and short others, or energies of bands.

    Bands are two axes of 16 or more that take nothing below zero, as (1, frames, bands).
    """
    if not isinstance(given, TensorInput) or given.dtype == "int32" or is_picture(given):
        return False
    sizes = sorted(captured_shape(given), reverse=True)
    rest = [size for size in sizes[1:] if size > 1]
    if given.low is None or given.low < 0:
        return sizes[0] >= LEAST_SOUND and math.prod(rest) <= MOST_CHANNELS
    return len(rest) == 1 and rest[0] >= LEAST_BANDS


def is_without_range(given: Input) -> bool:
    """Whether an array of floats declares neither the least nor the greatest value that the app gives."""
    return isinstance(given, TensorInput) and given.dtype != "int32" and given.low is None and given.high is None
