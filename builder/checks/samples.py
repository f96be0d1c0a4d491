"""The samples of a check that executes something."""

from __future__ import annotations

from builder.checks.subject import Subject
from builder.data import Samples, default_data, draw_samples
from builder.data.drawing import covers
from builder.data.wording import DRAWN_KINDS
from builder.spec import BuildSpec
from builder.spec.checks import AccuracyCheck, ParityCheck
from builder.spec.data import Data
from builder.spec.inputs import TensorInput

DRAWN = {"photographs": 4, "noise": 4, "digits": 16}
"""How many samples parity takes of data that comes along, by its kind."""
OTHERWISE = 8


def check_data(check: ParityCheck | AccuracyCheck, spec: BuildSpec) -> Data:
    """The data of a check, or what stands in for it."""
    data = check.data or default_data(spec)
    assert not isinstance(data, str), "named data stands in the places that refer to it"
    return data


def check_samples(name: str, check: ParityCheck | AccuracyCheck, subject: Subject) -> Samples:
    """The data of a check; parity also tries the other shapes that the app may choose.

    Of a user's own data parity takes all, in an order by the seed, so that those before the end of a budget are a fair
    choice; a model with states takes them in their order.
    """
    data, count, is_parity = check_data(check, subject.spec), check.samples, isinstance(check, ParityCheck)
    if count is None and is_parity and data.kind in DRAWN_KINDS:
        count = DRAWN.get(data.kind, OTHERWISE)
    return draw_samples(
        data,
        subject.spec.input,
        count,
        subject.spec.seed,
        vary=is_parity,
        shuffled=is_parity and not subject.prepared.states,
        published=subject.prepared.preprocessing,
        key=f"checks.{name}.data",
    )


def synthetic_inputs(check: ParityCheck | AccuracyCheck, spec: BuildSpec) -> tuple[str, ...]:
    """The array inputs for which the recipe has no data: what they get in an app was never tried."""
    data = check_data(check, spec)
    return tuple(
        name for name, given in spec.input.items() if isinstance(given, TensorInput) and not covers(data, name, given)
    )
