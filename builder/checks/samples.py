"""The samples of a check that executes something."""

from __future__ import annotations

from builder.checks.subject import Subject
from builder.data import Samples, draw_samples
from builder.data.wording import is_drawn
from builder.spec.checks import AccuracyCheck, ParityCheck
from builder.spec.coverage import data_of

DRAWN_SAMPLES = 4
"""How many samples parity takes of data that comes along."""


def check_samples(name: str, check: ParityCheck | AccuracyCheck, subject: Subject) -> Samples:
    """The data of a check; parity also tries the other shapes that the app may choose.

    Of a user's own data parity takes all, in an order by the seed, so that those before the end of a budget are a fair
    choice; a model with states takes them in their order.
    """
    data, count, is_parity = data_of(check, subject.spec), check.samples, isinstance(check, ParityCheck)
    if count is None and is_parity and is_drawn(data.kind):
        count = DRAWN_SAMPLES
    return draw_samples(
        data,
        subject.spec.artifact_inputs,
        count,
        subject.spec.seed,
        vary=is_parity,
        shuffled=is_parity and not subject.prepared.states,
        published=subject.prepared.preprocessing,
        key=f"checks.{name}.data",
    )
