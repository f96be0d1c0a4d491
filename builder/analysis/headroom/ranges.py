"""The rules about ranges: what overflows, vanishes, saturates, loses integers, or divides by zero."""

from __future__ import annotations

import math
from collections.abc import Iterator

from builder.analysis.headroom.judged import Judged, Standing, beyond, judged, overflowing
from builder.analysis.headroom.program import Program, first, is_computing, is_moving
from builder.artifacts.headroom import HALF_NORMAL
from coreml_runtime.intervals.unary import RANGES
from coreml_runtime.intervals.visit import Operand, Visit

VANISHES = 2.0**-25
"""Up to here values round to zero in half precision."""
EXPONENTIALS = ("exp", "exp2", "sinh", "cosh")
_FLOATS = {"fp16": 2.0**11, "fp32": 2.0**24}
"""Up to where each float dtype has all integers."""
_ARITHMETIC = frozenset(
    {"add", "sub", "mul", "maximum", "minimum", "abs", "clip", "concat", "stack", "select", "cast", "identity"}
)
_COUNTING = frozenset(
    {"equal", "not_equal", "mod", "floor_div", "floor", "round", "ceil", "gather", "gather_nd", "one_hot"}
)
_INDICES = {"int16": 2**15, "uint16": 2**16, "int8": 2**7, "uint8": 2**8}


def _half(program: Program) -> Iterator[tuple[Visit, Operand]]:
    for visit in program.visits:
        if is_computing(visit):
            yield from ((visit, output) for output in visit.outputs if output.dtype == "fp16")


def half_overflow(program: Program) -> Iterator[Judged]:
    """Values beyond 65504 in half precision, which become infinite; by how many bits they pass it."""
    for visit, output in _half(program):
        if visit.operation.type not in EXPONENTIALS:
            yield overflowing(program, visit, output)


def exp_overflow(program: Program) -> Iterator[Judged]:
    """Exponentials that become infinite: of more than 11.09 in half precision, of more than 88.7 in float32."""
    for visit in program.visits:
        if visit.operation.type in EXPONENTIALS:
            yield from (overflowing(program, visit, out) for out in visit.outputs if out.dtype in ("fp16", "fp32"))


def half_underflow(program: Program) -> Iterator[Judged]:
    """Values of an operator in half precision that are all below 6.1e-5, where it loses bits, or all but zero."""
    for visit, output in _half(program):
        values, interval = program.values(output.name), output.interval
        largest, standing = 0.0, "open"
        if values is not None:
            largest, standing = values.magnitude, "seen"
        elif interval.reached and program.is_declared and math.isfinite(interval.magnitude):
            largest, standing = interval.magnitude, "certain"
        if not 0 < largest < HALF_NORMAL / 2:
            yield judged(visit, "open")
            continue
        lost = math.log2(HALF_NORMAL / largest)
        message = "becomes zero" if largest <= VANISHES else f"loses {lost:.1f} of 11 bits"
        yield judged(visit, "seen" if standing == "seen" else "certain", f"is at most {largest:.3g}, and {message}")


def saturating_cast(program: Program) -> Iterator[Judged]:
    """Floats that become integers of a type that does not hold them: they are cut to its ends."""
    for visit, given, dtype in _casts(program):
        if dtype in RANGES and dtype != "bool" and given.dtype in ("fp16", "fp32"):
            standing, message = beyond(program, given, RANGES[dtype])
            yield judged(visit, standing, f"takes values {message}, and {dtype} ends at {RANGES[dtype][1]}")


def integer_cut(program: Program) -> Iterator[Judged]:
    """Integers that become integers of fewer bits, and other ones where they do not fit; and too narrow indices."""
    for visit, given, dtype in _casts(program):
        if dtype in _INDICES and given.dtype in RANGES and given.dtype != "bool":
            standing, message = beyond(program, given, RANGES[dtype])
            yield judged(visit, standing, f"takes integers {message}, and {dtype} ends at {RANGES[dtype][1]}")
    for visit in program.visits:
        if visit.operation.type in ("gather", "gather_along_axis"):
            yield from _narrow_index(program, visit)


def _narrow_index(program: Program, visit: Visit) -> Iterator[Judged]:
    """Indices that were in so few bits that they do not reach the end of their axis."""
    x, indices, axis = first(visit, "x"), first(visit, "indices"), first(visit, "axis")
    if x is None or indices is None or x.type is None:
        return
    place = 0 if axis is None or axis.constant is None else int(axis.constant)
    size, dtype = x.type.shape[place], _narrowest(program, indices)
    if size is not None and dtype is not None and size > _INDICES[dtype]:
        yield judged(visit, "pattern", f"has indices that were {dtype}, and the axis has {size} elements")


_ADJUSTING = ("cast", "select", "add", "identity")
"""What indices pass through on their way: negative ones count from the end."""


def _narrowest(program: Program, operand: Operand) -> str | None:
    """The dtype of the fewest bits that indices had on their way."""
    found, waiting = [operand.dtype], [operand.name]
    while waiting:
        visit = program.makers.get(waiting.pop() or "")
        if visit is None or not (visit.operation.type in _ADJUSTING or is_moving(visit)):
            continue
        given = [each for argument in ("x", "y", "a", "b") if (each := first(visit, argument)) is not None]
        found += [each.dtype for each in given if each.name is not None and each.constant is None]
        waiting += [each.name for each in given]
    return min((dtype for dtype in found if dtype in _INDICES), key=_INDICES.__getitem__, default=None)


def integer_in_float(program: Program) -> Iterator[Judged]:
    """Integers beyond what floats have (2048 in half precision) that are compared, indices, or integers again."""
    for visit, given, dtype in _casts(program):
        if dtype not in _FLOATS or given.dtype not in RANGES or given.dtype == "bool":
            continue
        if not any(_counts(reader) for reader in program.after(visit, through=_ARITHMETIC)):
            continue
        limit = _FLOATS[dtype]
        standing, message = beyond(program, given, (-limit, limit))
        yield judged(visit, standing, f"takes integers {message}, and {dtype} has all of them up to {limit:.0f} only")


def _counts(visit: Visit) -> bool:
    """Whether an operator asks which integer it is."""
    if visit.operation.type == "cast":
        return bool(visit.outputs) and visit.outputs[0].dtype in RANGES and visit.outputs[0].dtype != "bool"
    return visit.operation.type in _COUNTING


def _casts(program: Program) -> Iterator[tuple[Visit, Operand, str]]:
    for visit in program.visits:
        given = first(visit, "x")
        if visit.operation.type == "cast" and given is not None and visit.outputs:
            yield visit, given, visit.outputs[0].dtype


_DIVISORS = {"real_div": "y", "floor_div": "y", "mod": "y", "inverse": "x", "rsqrt": "x", "log": "x"}
"""By operator, the argument that must not be zero."""
_POSITIVE = ("rsqrt", "log")


def divisor(visit: Visit) -> Operand | None:
    """What must not be zero, where it is computed."""
    found = first(visit, _DIVISORS.get(visit.operation.type, ""))
    return found if found is not None and found.name is not None and found.constant is None else None


def zero_division(program: Program) -> Iterator[Judged]:
    """Divisions by what may be zero, and logarithms and roots of what may be zero or less."""
    for visit in program.visits:
        given = divisor(visit)
        if given is not None:
            standing, message = _zero(program, visit, given)
            yield judged(visit, standing, message)


def _zero(program: Program, visit: Visit, given: Operand) -> tuple[Standing, str]:
    epsilon = _epsilon(visit)
    values, interval = program.values(given.name), given.interval
    positive = visit.operation.type in _POSITIVE
    name = f"{'takes the logarithm' if visit.operation.type == 'log' else 'divides'}"
    of = "of" if visit.operation.type == "log" else "by"
    if values is not None:
        if (positive and values.low + epsilon <= 0) or values.least == 0 == epsilon:
            return "as original", f"{name} {of} {min(values.low, 0.0) if positive else 0:.3g}, as seen"
        if given.dtype == "fp16" and not epsilon and values.least <= VANISHES:
            return "seen", f"{name} {of} {values.least:.3g}, which is zero in half precision"
    least, greatest = interval.least + epsilon, interval.greatest + epsilon
    if given.sure and not interval.nan and (least > 0 or (greatest < 0 and not positive)):
        return "proven", ""
    reached = interval.reached and program.is_declared and (least <= 0 <= greatest)
    if reached and interval.sources is not None:
        return "certain", f"{name} {of} what is 0 for some input"
    return "open", ""


def _epsilon(visit: Visit) -> float:
    """What an operator adds to its argument, as its dtype has it."""
    given = first(visit, "epsilon")
    if given is None:
        return {"inverse": 1e-4, "rsqrt": 1e-12, "log": 0.0}.get(visit.operation.type, 0.0)
    return 0.0 if given.constant is None else float(given.constant)
