"""The samples of a check that executes something."""

from __future__ import annotations

from builder.checks.subject import Subject
from builder.data import Samples, default_data, draw_samples
from builder.spec.checks import AccuracyCheck, ParityCheck


def check_samples(name: str, check: ParityCheck | AccuracyCheck, subject: Subject) -> Samples:
    """The data of a check; parity also tries the other shapes that the app may choose."""
    data = check.data or default_data(subject.spec)
    assert not isinstance(data, str), "named data stands in the places that refer to it"
    return draw_samples(
        data,
        subject.spec.artifact_inputs,
        check.samples,
        subject.spec.seed,
        vary=isinstance(check, ParityCheck),
        published=subject.prepared.preprocessing,
        key=f"checks.{name}.data",
    )
