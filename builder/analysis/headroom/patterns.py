"""The rules about how a program is written: cancellation, logarithms of softmax, constants, counters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from builder.analysis.headroom.judged import Judged, judged
from builder.analysis.headroom.program import Program, first
from builder.artifacts.headroom import HALF_MAX, HALF_NORMAL
from coreml_runtime.intervals.visit import Operand, Visit

_BITS = {"fp16": 11, "fp32": 24}
_KEPT_BITS = 3
"""A difference that keeps fewer is worth nothing."""
_STOPS = 2.0**11
"""In half precision x + 1 is x from here on."""
_NORMAL = {"fp16": HALF_NORMAL, "fp32": 2.0**-126}
_PAST_LOG = frozenset({"cast", "identity", "add", "clip", "maximum"})


def differences(program: Program) -> Mapping[str, tuple[str, str]]:
    """By name, the differences of a mean of squares and the square of the mean, with their operands."""
    found = {}
    for visit in program.visits:
        x, y = first(visit, "x"), first(visit, "y")
        if visit.operation.type != "sub" or x is None or y is None or not (x.name and y.name and visit.outputs[0].name):
            continue
        of_squares, of_mean = _mean_of_squares(program, x), _square_of_mean(program, y)
        if of_squares is not None and of_squares == of_mean:
            found[visit.outputs[0].name] = (x.name, y.name)
    return found


def _square(program: Program, operand: Operand) -> Operand | None:
    """What a value is the square of."""
    visit = program.origin(operand)
    if visit is None:
        return None
    x, y = first(visit, "x"), first(visit, "y")
    kind = visit.operation.type
    if kind == "square" or (kind == "mul" and x is not None and y is not None and x.name == y.name):
        return x
    exponent = None if y is None else y.constant
    return x if kind == "pow" and exponent is not None and exponent.numel() == 1 and float(exponent) == 2 else None


def _mean(program: Program, operand: Operand) -> Operand | None:
    """What a value is the mean of."""
    visit = program.origin(operand)
    return first(visit, "x") if visit is not None and visit.operation.type == "reduce_mean" else None


def _named(program: Program, operand: Operand | None) -> str | None:
    """What a value is, past conversions."""
    if operand is None:
        return None
    visit = program.origin(operand)
    return visit.outputs[0].name if visit is not None else operand.name


def _mean_of_squares(program: Program, operand: Operand) -> str | None:
    mean = _mean(program, operand)
    return None if mean is None else _named(program, _square(program, mean))


def _square_of_mean(program: Program, operand: Operand) -> str | None:
    squared = _square(program, operand)
    return None if squared is None else _named(program, _mean(program, squared))


def cancellation(program: Program) -> Iterator[Judged]:
    """A variance as E[x^2] - E[x]^2: of two large and all but equal numbers only rounding errors are left."""
    for name in differences(program):
        visit = program.makers[name]
        total = _BITS.get(visit.outputs[0].dtype)
        values = program.values(name)
        if total is None:
            continue
        if values is None:
            yield judged(visit, "pattern", "is a mean of squares without the square of the mean")
        elif values.lost_bits > total - _KEPT_BITS:
            lost = min(values.lost_bits, float(total))
            yield judged(visit, "seen", f"loses {lost:.0f} of {total} bits, as E[x^2] - E[x]^2")
        else:
            yield judged(visit, "open")


def log_of_softmax(program: Program) -> Iterator[Judged]:
    """The logarithm of a softmax: minus infinity, or that of the constant beside it, where a probability vanishes."""
    for visit in program.visits:
        given = first(visit, "x") if visit.operation.type == "log" else None
        if given is None:
            continue
        softmax = program.origin(given, through=_PAST_LOG)
        if softmax is None or softmax.operation.type != "softmax":
            continue
        output = softmax.outputs[0]
        least, values = _NORMAL.get(output.dtype, 0.0), program.values(output.name)
        if output.sure and output.interval.least >= least:
            yield judged(visit, "proven")
        elif values is not None and values.low < least:
            yield judged(visit, "seen", f"is of a softmax that goes down to {values.low:.3g}")
        else:
            yield judged(visit, "pattern", "is of a softmax")


def half_constant(program: Program) -> Iterator[Judged]:
    """Constants that half precision does not hold, such as -1e9, where sums or products with them are no numbers."""
    for visit in program.visits:
        for operand in (first(visit, "x"), first(visit, "y")):
            constant = None if operand is None or operand.dtype != "fp16" else operand.constant
            if operand is None or constant is None or operand.interval.magnitude < HALF_MAX:
                continue
            other = next(
                (o for o in (first(visit, "x"), first(visit, "y")) if o is not None and o is not operand), None
            )
            message = _constant(visit, operand, other)
            if message:
                yield judged(visit, "pattern" if other is None or not other.interval.reached else "certain", message)


def _constant(visit: Visit, operand: Operand, other: Operand | None) -> str:
    """What goes wrong with a constant at the end of the range, or beyond it; empty where nothing does."""
    if other is None:
        return ""
    ends = other.interval
    infinite = math.isinf(operand.interval.magnitude)
    if visit.operation.type == "mul":
        if infinite and ends.least <= 0 <= ends.greatest:
            return "multiplies zero by a constant that is infinite in half precision: not a number"
        return "" if infinite or ends.magnitude <= 1 else "multiplies by a constant at the end of half precision"
    if visit.operation.type in ("add", "sub") and infinite and math.isinf(ends.magnitude):
        return "adds infinite values in half precision, which may have different signs: not a number"
    return ""


def counter_stops(program: Program) -> Iterator[Judged]:
    """States in half precision that grow by a sum, and running sums of many values: from 2048 on x + 1 is x."""
    for visit in program.visits:
        if visit.operation.type == "write_state":
            yield from _growing_state(program, visit)
        elif visit.operation.type == "cumsum" and visit.outputs[0].dtype == "fp16":
            yield from _running_sum(program, visit)


def _growing_state(program: Program, visit: Visit) -> Iterator[Judged]:
    state, data = first(visit, "input"), first(visit, "data")
    if state is None or data is None or data.dtype != "fp16":
        return
    added = program.origin(data, through=frozenset({"cast", "identity"}))
    if added is None or added.operation.type not in ("add", "sub"):
        return
    for argument in ("x", "y"):
        operand = first(added, argument)
        read = None if operand is None else program.origin(operand, through=frozenset({"cast", "identity"}))
        if read is not None and read.operation.type == "read_state" and _same(first(read, "input"), state):
            other = first(added, "y" if argument == "x" else "x")
            step = (
                "what is added" if other is None or other.constant is None else f"{float(other.interval.magnitude):.3g}"
            )
            yield judged(added, "pattern", f"adds to state {state.name}, which stops at 2048 times {step}")


def _same(one: Operand | None, other: Operand) -> bool:
    return one is not None and one.name == other.name


def _running_sum(program: Program, visit: Visit) -> Iterator[Judged]:
    given, output = first(visit, "x"), visit.outputs[0]
    if given is None:
        return
    values, parts = program.values(output.name), program.values(given.name)
    axis = first(visit, "axis")
    size = given.interval.sizes[int(axis.constant) if axis is not None and axis.constant is not None else 0]
    if size is not None and size <= _STOPS:
        yield judged(visit, "proven")
    elif values is not None and parts is not None and values.magnitude >= _STOPS * parts.magnitude > 0:
        yield judged(visit, "seen", f"sums up to {values.magnitude:.4g} of values up to {parts.magnitude:.3g}")
    else:
        yield judged(visit, "open")
