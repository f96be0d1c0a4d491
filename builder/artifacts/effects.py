"""What a compression step changed at the outputs, in the two numbers that people look at first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from builder.artifacts.checks import CheckReport
from builder.artifacts.stages import CompressionEffect, MeasuredOutputs, MeasuredSteps, Measures
from builder.spec.check_kinds import check_named
from builder.spec.checks import AccuracyCheck


def numbers_of(measures: Measures) -> dict[str, float]:
    """The measures that are numbers."""
    return {name: value for name, value in measures.items() if isinstance(value, int | float)}


def worst_change(outputs: MeasuredOutputs) -> tuple[float | None, float | None]:
    """`max_abs` and `snr_db` of the worst output; None where no output that proves something has them.

    NaN is the worst.
    """
    known = [numbers_of(measured) for measured in outputs.values() if "not_meaningful" not in measured]
    largest = [float(measured["max_abs"]) for measured in known if "max_abs" in measured]
    least = [float(measured["snr_db"]) for measured in known if "snr_db" in measured]
    return _worst(largest, max), _worst(least, min)


def _worst(values: Sequence[float], pick: Callable[[Sequence[float]], float]) -> float | None:
    nothing = [value for value in values if value != value]
    return nothing[0] if nothing else pick(values) if values else None


def with_measures(
    effects: Sequence[CompressionEffect], measured: MeasuredSteps | None, checks: Sequence[CheckReport]
) -> tuple[CompressionEffect, ...]:
    """The steps on the program with what they cost, where that was measured; the checks say it of the last one."""
    if measured is None:
        return tuple(effects)
    found = []
    *earlier, (last, last_so_far) = measured.steps
    steps = [*earlier, (last, _with_accuracy(last_so_far, measured.conversion.outputs, checks))]
    for effect, (alone, so_far) in zip(effects, steps, strict=True):
        max_abs, snr_db = worst_change(alone)
        found.append(
            replace(
                effect,
                max_abs=max_abs,
                snr_db=snr_db,
                alone=alone,
                so_far=so_far,
                engine="runtime",
                samples=measured.conversion.samples,
            )
        )
    return tuple(found)


def _with_accuracy(
    outputs: MeasuredOutputs, conversion: MeasuredOutputs, checks: Sequence[CheckReport]
) -> MeasuredOutputs:
    """What is measured after the last step, with the artifact's accuracy at the output whose conversion has one."""
    summary = next(
        (check.values["accuracy"] for check in checks if check_named(check.kind).settings is AccuracyCheck), None
    )
    return {
        name: {**measured, "accuracy": summary} if summary is not None and "accuracy" in conversion[name] else measured
        for name, measured in outputs.items()
    }
