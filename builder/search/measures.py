"""What a search can make small or large: the names of all measures of a recipe, and their values in a build."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from builder.artifacts.checks import CheckReport
from builder.artifacts.devices import MEASURES, UNITS
from builder.jobs.table import Row
from builder.reports.plain import leaves
from builder.reports.verdict import worst_values
from builder.spec import BuildSpec
from builder.spec.base import Limit
from builder.spec.check_kinds import Check, check_kind

SIZE, SECONDS = "artifact.bytes", "build.seconds"
_COSTS = ("macs", "weights_stored_bytes", "weights_computed_bytes", "activations_bytes", "peak_bytes", "clear_share")
PLACE_OF_OUTPUT = "OUTPUT"
"""Stands for the name of any output where the recipe names none."""

Worst = Literal["smallest", "largest"]
"""Which of several values of a measure (of outputs, of engines) counts."""


class UnmeasuredError(Exception):
    """A build says nothing of a measure; the text says what it does say."""


def known_measures(spec: BuildSpec) -> list[str]:
    """The names of all measures that builds of `spec` have: whatever a check can limit, and what every build has."""
    found = [SIZE, SECONDS, *(f"costs.{name}" for name in _COSTS)]
    found += [f"costs.{function}.{name}" for function in spec.functions or () for name in _COSTS]
    for name, check in spec.checks.items():
        own = [*_limited(check)]
        found += [f"checks.{name}.{measure}" for measure in own]
        if check_kind(check).by_output:
            outputs = list(spec.output) or [PLACE_OF_OUTPUT]
            found += [f"checks.{name}.{output}.{measure}" for output in outputs for measure in own]
    return found


def is_known(measure: str, known: Sequence[str]) -> bool:
    """Whether a measure is among `known`, in which any name may stand in the place of an output."""
    parts = measure.split(".")
    anywhere = (
        ".".join([*parts[:2], PLACE_OF_OUTPUT, *parts[3:]]) if len(parts) == 4 and parts[2].isidentifier() else ""
    )
    return measure in known or anywhere in known or _is_of_a_device(parts)


def _is_of_a_device(parts: Sequence[str]) -> bool:
    """`device.iPhone16,2.ane.latency_ms`: which devices there are, nobody knows before they measure."""
    return len(parts) == 4 and parts[0] == "device" and parts[2] in UNITS and parts[3] in MEASURES


def _limited(check: Check) -> Iterator[str]:
    for name, field in type(check).model_fields.items():
        if Limit in _members(field.annotation):
            yield name


def _members(annotation: object) -> tuple[object, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def value_of(measure: str, row: Row, worst: Worst) -> float:
    """The value of a measure in a finished build; raises UnmeasuredError where it has none."""
    if measure == SIZE and row.size_bytes is not None:
        return float(row.size_bytes)
    if measure == SECONDS:
        return row.outcome.seconds
    if measure.startswith("device.") and measure not in row.figures:
        raise UnmeasuredError(f"{measure} was not measured: `device run` measures {row.name} on a Mac")
    if measure.startswith(("costs.", "device.")):
        if measure not in row.figures:
            raise UnmeasuredError(f"{measure} is not known; known: {', '.join(row.figures) or 'nothing of it'}")
        return row.figures[measure]
    values = list(_values(measure, row.checks.values()))
    if not values:
        raise UnmeasuredError(_why(measure, row))
    return (min if worst == "smallest" else max)(values)


def _values(measure: str, checks: Iterator[CheckReport] | Any) -> Iterator[float]:
    """The value on each engine that ran the check, and for each function of the artifact."""
    parts = measure.split(".")
    for check in checks:
        if parts[:2] != ["checks", _of_recipe(check)]:
            continue
        if len(parts) == 3:
            found: object = worst_values(check).get(parts[2])
        else:
            output = check.values.get(parts[2])
            found = output.get(parts[3]) if isinstance(output, Mapping) and "not_meaningful" not in output else None
        if isinstance(found, int | float) and not isinstance(found, bool):
            yield float(found)


def _of_recipe(check: CheckReport) -> str:
    """The recipe's name of a check, without the function of the artifact that it looked at."""
    return check.name.partition(".")[0]


def _why(measure: str, row: Row) -> str:
    """What to say where a build lacks a measure."""
    name = measure.split(".")[1]
    reports = [check for check in row.checks.values() if _of_recipe(check) == name]
    reasons = [check.reason for check in reports if check.reason]
    if reasons:
        return f"{measure} was not measured: {reasons[0]}"
    measured = dict.fromkeys(f"checks.{name}.{path}" for check in reports for path, _ in leaves(dict(check.values)))
    return f"{measure} was not measured; measured: {', '.join(measured) or 'nothing by such a check'}"
