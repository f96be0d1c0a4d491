"""The samples on which programs are compared: those of the check that found the error, or may find it."""

from __future__ import annotations

from collections.abc import Sequence

from builder.artifacts import Preprocessing, Sample
from builder.data import default_data, draw_samples
from builder.spec import BuildSpec
from builder.spec.checks import ParityCheck


def first_samples(spec: BuildSpec, published: Preprocessing | None, count: int) -> Sequence[Sample]:
    """The first samples of the first parity check that names data; of the default data without one.

    `published` is how the weights say that pictures are prepared.
    """
    checks = [(name, check) for name, check in spec.checks.items() if isinstance(check, ParityCheck) and check.data]
    name, data = (checks[0][0], checks[0][1].data) if checks else ("", default_data(spec))
    assert data is not None
    assert not isinstance(data, str), "named data stands in the places that refer to it"
    return draw_samples(data, spec.artifact_inputs, count, spec.seed, published=published, key=f"checks.{name}.data")[:]
