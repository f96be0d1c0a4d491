"""All that is known of the values inside one artifact."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from builder.analysis.headroom.domain import Domain
from builder.analysis.headroom.judged import CONFIDENCE, Judged
from builder.analysis.headroom.patterns import differences
from builder.analysis.headroom.program import Program, is_computing
from builder.analysis.headroom.ranges import divisor
from builder.analysis.headroom.seen import Wanted, look
from builder.analysis.headroom.table import RULES
from builder.artifacts.findings import LintFinding
from builder.artifacts.headroom import Headroom, OperatorRange, Statement
from builder.artifacts.stored import ConvertedFacts
from coreml_runtime.errors import RuntimeFailure
from coreml_runtime.intervals.program import read_visits
from coreml_runtime.intervals.visit import Operand, Visit, most

EXAMPLES = 5
_FLOATS = ("fp16", "fp32")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an operator comes from, as far as that is known."""

    module: str = ""
    line: str = ""

    @property
    def words(self) -> str:
        """For people, after an operator's name."""
        of = f" of {self.module}" if self.module else ""
        return f"{of} ({self.line})" if self.line else of


def places(converted: ConvertedFacts) -> dict[str, Place]:
    """By value and operator, where a conversion knows that they come from."""
    names = {*converted.modules, *converted.lines}
    return {n: Place(module=converted.modules.get(n, ""), line=converted.lines.get(n, "")) for n in names}


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a program is executed on."""

    given: Iterable[Mapping[str, object]]
    describe: Callable[[Sequence[int]], str]
    """What those of these numbers are called."""
    seconds: float


def analyse(
    path: Path,
    domain: Domain,
    inputs: Inputs | None,
    *,
    function: str = "",
    places: Mapping[str, Place] | None = None,
) -> Headroom:
    """Carry the domain through the program, execute it on the inputs, and ask every rule.

    `places` are by names of values. What cannot be analysed is said, not raised.
    """
    places = places or {}
    try:
        visits = read_visits(path, domain.ranges, function=function or None)
        seen = (
            None
            if inputs is None
            else look(path, inputs.given, _wanted(visits), function=function or None, seconds=inputs.seconds)
        )
    except RuntimeFailure as error:
        return Headroom(function=function, not_analysed=str(error))
    program = Program(visits=visits, seen=seen, is_declared=domain.is_declared)
    judgements = {name: list(rule.find(program)) for name, rule in RULES.items()}
    return Headroom(
        function=function,
        domain=domain.words,
        seen_on="" if seen is None or inputs is None else inputs.describe(seen.inputs),
        operators=tuple(_ranges(program, places)),
        statements=tuple(_statement(name, found) for name, found in judgements.items() if found),
        findings=tuple(_findings(judgements, places)),
    )


def _wanted(visits: Iterable[Visit]) -> Wanted:
    found = list(visits)
    divisors = {given.name for visit in found if (given := divisor(visit)) is not None and given.name}
    return Wanted(divisors=divisors, differences=differences(Program(visits=found)))


def _ranges(program: Program, places: Mapping[str, Place]) -> Iterable[OperatorRange]:
    for visit in program.visits:
        if visit.nested or not is_computing(visit):
            continue
        for output in visit.outputs:
            if output.dtype in _FLOATS and output.name:
                yield _range(program, visit, output, places.get(output.name, places.get(visit.operation.name, Place())))


def _range(program: Program, visit: Visit, output: Operand, place: Place) -> OperatorRange:
    values, interval = program.values(output.name), output.interval
    known = isfinite(interval.magnitude)
    return OperatorRange(
        name=output.name or "",
        operator=visit.operation.type,
        dtype=output.dtype,
        low=interval.least if known else None,
        high=interval.greatest if known else None,
        proven=output.sure and not interval.nan and interval.magnitude <= most(output.dtype),
        seen_low=None if values is None else values.low,
        seen_high=None if values is None else values.high,
        module=place.module,
        line=place.line,
    )


def _statement(name: str, found: list[Judged]) -> Statement:
    return Statement(
        rule=name,
        sites=len(found),
        proven=sum(each.standing == "proven" for each in found),
        found=sum(each.standing in CONFIDENCE for each in found),
    )


def _findings(judgements: Mapping[str, list[Judged]], places: Mapping[str, Place]) -> Iterable[LintFinding]:
    for name, judged in judgements.items():
        hits = [each for each in judged if each.standing in CONFIDENCE]
        if not hits:
            continue
        order = list(CONFIDENCE)
        hits.sort(key=lambda each: order.index(each.standing))
        rule = RULES[name]
        yield LintFinding(
            rule=name,
            confidence=CONFIDENCE[hits[0].standing],
            count=len(hits),
            examples=tuple(_example(each, places) for each in hits[:EXAMPLES]),
            advice=rule.advice,
            sources=rule.sources,
        )


def _example(hit: Judged, places: Mapping[str, Place]) -> str:
    return f"{hit.name} ({hit.operator}){places.get(hit.name, Place()).words} {hit.summary}"
