"""The values inside an artifact that is being checked, on the inputs of its checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from builder.analysis.headroom.analyse import Place, analyse
from builder.analysis.headroom.domain import domain_of
from builder.analysis.headroom.inputs import of_samples
from builder.analysis.headroom.screen import worst_line
from builder.artifacts.checks import CheckReport
from builder.artifacts.headroom import Headroom
from builder.checks.samples import check_samples
from builder.checks.subject import Subject
from builder.data import default_data
from builder.data.stress_samples import stress_inputs
from builder.data.wording import is_drawn
from builder.spec.checks import ParityCheck
from builder.spec.coverage import data_of
from builder.spec.functions import labelled

SECONDS, OF_BUILD = 0.3, 0.03
"""How long the artifact is executed for this at most, in seconds and as a share of the build; two inputs at least."""


def with_headroom(
    reports: Sequence[CheckReport], subjects: Sequence[Subject], places: Mapping[str, Mapping[str, Place]]
) -> tuple[CheckReport, ...]:
    """The reports, with what is known of values in the first parity check of each function.

    `places` are by function and name of a value. Where a check failed and values pass what half precision holds, its
    reason says so.
    """
    found = list(reports)
    for subject in subjects:
        for check_name, check in subject.spec.checks.items():
            name = labelled(check_name, subject.function)
            at = next((i for i, r in enumerate(found) if r.name == name and r.engine == "runtime"), None)
            if not isinstance(check, ParityCheck) or at is None:
                continue
            headroom = _headroom(check_name, check, subject, places.get(subject.function, {}))
            found[at] = replace(found[at], headroom=headroom, reason=_reason(found[at], headroom))
            break
    return tuple(found)


def _headroom(name: str, check: ParityCheck, subject: Subject, places: Mapping[str, Place]) -> Headroom:
    spec = subject.spec
    if not spec.format_kind.is_analysed:
        return Headroom(function=subject.function, not_analysed=f"intervals are not computed for {spec.format}")
    data = data_of(check, spec)
    beside = data if is_drawn(data.kind) else default_data(spec)
    samples = check_samples(name, check, subject)
    stress = stress_inputs(beside, spec.artifact_inputs, spec.seed) if check.stress else ()
    return analyse(
        subject.sealed.path,
        domain_of(spec.artifact_inputs),
        of_samples(samples, stress, min(SECONDS, OF_BUILD * subject.build_seconds)),
        function=subject.function,
        places=places,
    )


def _reason(report: CheckReport, headroom: Headroom) -> str | None:
    """Why the check failed, with the operator whose values half precision does not hold."""
    worst = worst_line([headroom]) if report.passed is False else None
    return report.reason if worst is None else "; ".join(filter(None, (report.reason, worst)))
