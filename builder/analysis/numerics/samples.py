"""The samples on which programs are compared: those of the check that found the error, or may find it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from builder.artifacts.checks import CheckReport
from builder.artifacts.stages import CapturedProgram, PreparedModel, Sample, SealedPackage
from builder.checks.samples import check_samples
from builder.checks.subject import Subject
from builder.data import default_data, draw_samples
from builder.progress import Silent
from builder.spec import BuildSpec
from builder.spec.check_kinds import check_named
from builder.spec.checks import ParityCheck
from builder.spec.data import TensorsData


@dataclass(frozen=True, kw_only=True)
class Missed:
    """Where a parity check missed its limits, by our runtime; `check` is empty where none did."""

    check: str = ""
    failed_on: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By output, the numbers of the samples, those first that differ most."""
    worst_input: bytes | None = None
    """Where the samples hold and an input beside them does not: that one, as `.npz`."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that missed a limit."""
        return tuple(self.failed_on)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"check": self.check, "failed_on": {name: list(numbers) for name, numbers in self.failed_on.items()}}


def missed_by(reports: Iterable[CheckReport]) -> Missed:
    """The first parity check that failed, on samples of its own or on an input beside them."""
    for report in reports:
        if check_named(report.kind).settings is ParityCheck and report.engine == "runtime" and report.passed is False:
            worst = None if report.failed_on else report.worst_input
            return Missed(check=report.name, failed_on=report.failed_on, worst_input=worst)
    return Missed()


def samples_to_compare(spec: BuildSpec, prepared: PreparedModel, missed: Missed, count: int) -> Sequence[Sample]:
    """At most `count` samples on which the check missed its limits; without such a check, the first of its data."""
    check = spec.checks.get(missed.check)
    if missed.worst_input is not None and not prepared.states:
        return _from_npz(missed.worst_input, spec)
    if not isinstance(check, ParityCheck) or not missed.failed_on or prepared.states:
        return first_samples(spec, prepared, count)
    samples = check_samples(missed.check, check, _subject(spec, prepared))
    in_turn = chain.from_iterable(zip_longest(*missed.failed_on.values()))  # of each output the worst first
    worst = dict.fromkeys(in_turn)
    numbers = [number for number in worst if number is not None and number < len(samples)]
    return [samples[number] for number in numbers[:count]]


def _subject(spec: BuildSpec, prepared: PreparedModel) -> Subject:
    """As much of a build as samples are drawn by."""
    return Subject(
        spec=spec,
        prepared=prepared,
        captured=CapturedProgram(program=None, method=""),
        sealed=SealedPackage(path=Path(), format="", digest="", size_bytes=0, semantic_digest=""),
        progress=Silent(),
    )


def _from_npz(content: bytes, spec: BuildSpec) -> Sequence[Sample]:
    with tempfile.TemporaryDirectory(prefix="builder-worst-") as folder:
        file = Path(folder) / "worst.npz"
        file.write_bytes(content)
        data = TensorsData(kind="tensors", file=str(file))
        return draw_samples(data, spec.artifact_inputs, None, spec.seed)[:]


def first_samples(spec: BuildSpec, prepared: PreparedModel, count: int) -> Sequence[Sample]:
    """The first samples of the first parity check that names data; of the default data without one."""
    checks = [(name, check) for name, check in spec.checks.items() if isinstance(check, ParityCheck) and check.data]
    name, data = (checks[0][0], checks[0][1].data) if checks else ("", default_data(spec))
    assert data is not None
    assert not isinstance(data, str), "named data stands in the places that refer to it"
    return draw_samples(
        data, spec.artifact_inputs, count, spec.seed, published=prepared.preprocessing, key=f"checks.{name}.data"
    )[:]
