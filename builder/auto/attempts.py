"""A build on the way to a choice, and what of it counts: its size, its verdicts, its SNR."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.artifacts.checks import CheckReport
from builder.artifacts.record import LayerWeights, TriedArtifact
from builder.artifacts.stages import CompressionEffect, PreparedModel
from builder.spec import BuildSpec
from builder.spec.check_kinds import check_named
from builder.spec.checks import ParityCheck

_TOLD = ("snr_db", "accuracy", "drop", "top1_agreement")
"""The measures that are kept of what was tried."""
_WORST_IS_LARGEST = ("drop",)


@dataclass(frozen=True, kw_only=True)
class TriedBuild:
    """What a choice looks at of a build."""

    artifact: Callable[[], Path]
    """Where the artifact lies, as long as the choice lasts."""
    digest: str
    size_bytes: int
    weights: tuple[LayerWeights, ...]
    modules: Mapping[str, str]
    """By output and name of each operator: the path of its PyTorch module."""
    names: Mapping[str, str]
    """By output of each operator, how a recipe names it, where that is another name."""
    method: str
    """By which the model was captured."""
    effects: tuple[CompressionEffect, ...]
    """Of the steps on the program."""
    prepared: Callable[[], PreparedModel]
    weight_users: Callable[[], Mapping[str, frozenset[str]]]
    """By name of each weight, the values that are computed with it; of an artifact without compression."""
    reports: Callable[[], tuple[CheckReport, ...]]
    """The verdicts, where checks were asked for."""


Attempting = Callable[[BuildSpec], TriedBuild]
"""Builds and checks what a spec says; raises what a build raises, but not for missed limits."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A build up to its checks, none of which has ended it, and what they measured."""

    what: str
    spec: BuildSpec
    build: TriedBuild
    reports: tuple[CheckReport, ...]

    @property
    def path(self) -> Path:
        """The artifact, as long as the choice lasts."""
        return self.build.artifact()

    @property
    def bytes(self) -> int:
        """The size of the artifact."""
        return self.build.size_bytes

    @property
    def passes(self) -> bool:
        """Whether no check failed, and one that executes the artifact passed."""
        executed = [report.passed for report in self.reports if check_named(report.kind).executes]
        return True in executed and all(report.passed is not False for report in self.reports)

    @property
    def failures(self) -> int:
        """How many checks failed."""
        return sum(report.passed is False for report in self.reports)

    @property
    def snr_db(self) -> float:
        """The worst SNR of all parity checks; -inf where an output is not a number, or nothing was measured."""
        found = [
            value
            for report in self.reports
            if check_named(report.kind).settings is ParityCheck
            for value in _values(report, "snr_db")
        ]
        return -math.inf if not found or any(value != value for value in found) else min(found)

    def tried(self) -> TriedArtifact:
        """What the record keeps of it."""
        values: dict[str, float] = {}
        for report in self.reports:
            for measure in _TOLD if check_named(report.kind).executes else ():
                found = [value for value in _values(report, measure) if math.isfinite(value)]
                key, worst = f"{report.name}.{measure}", max if measure in _WORST_IS_LARGEST else min
                if found:
                    values[key] = worst(*found, values.get(key, found[0]))  # an engine may have measured it before
        return TriedArtifact(what=self.what, bytes=self.bytes, passed=self.passes, values=values)


def measured(what: str, spec: BuildSpec, build: TriedBuild) -> Candidate:
    """The candidate of a build, whose checks have run."""
    return Candidate(what=what, spec=spec, build=build, reports=build.reports())


def _values(report: CheckReport, measure: str) -> Iterator[float]:
    """A measure of every output that proves something, or of the whole."""
    for name, value in report.values.items():
        if isinstance(value, Mapping):
            if measure in value and "not_meaningful" not in value:
                yield float(value[measure])
        elif name == measure:
            yield float(value)
