"""`python -m builder lint MODEL`: what keeps a model off the Neural Engine, and where its numbers can go wrong."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cli.arguments import Parser, model_file, verbosity
from builder.util.locations import shown
from builder.util.text import visible

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

if TYPE_CHECKING:  # it brings torch
    from builder.analysis.headroom.analyse import Place
    from builder.artifacts.costs import Costs

DESCRIPTION = """Say what probably keeps a .mlpackage or .mlmodel off the Neural Engine, or slows it there, and where
its numbers can go wrong: warnings, each with its confidence and its source (docs/reference/lint.md), the surest first.
Between them is what its operators cost: multiply-accumulates and bytes, counted from the program. Values are bounded
from the inputs on, as the build.json beside the model declares them, and the model is executed for a few seconds. The
exit code is 0.

  python -m builder lint outputs/mobilenet_v2_fp16/default/mobilenet_v2_fp16.mlpackage
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("lint", DESCRIPTION, usage="lint MODEL")
    made.add_argument("model", metavar="MODEL", help="a .mlpackage, .mlmodel or .aimodel")
    made.offer_json()
    return made


def run(arguments: Sequence[str]) -> int:
    """Print what was found; returns the exit code."""
    given = parser().read(arguments)
    path = model_file(given.model)
    from builder.analysis.costs.screen import format_costs
    from builder.analysis.headroom.inputs import analyse_file
    from builder.analysis.headroom.screen import format_headroom
    from builder.analysis.neural_engine.inspect import accepted, examine, format_findings
    from builder.reports.terminal import Terminal

    inputs, places = _beside(path)
    with Terminal(verbosity=verbosity(given), stream=sys.stderr) as terminal:
        terminal.begin("rules")
        examined = examine(path)
        terminal.begin("numbers")
        numbers = [(each, accepted(each.findings, {})) for each in analyse_file(path, inputs, places)]
    findings = examined.findings
    costs = tuple(_placed(each, places) for each in examined.costs)
    if given.json:
        from builder.cli.answers import LintAnswer, costs_answer, headroom_answer, lint_findings, render

        functions = tuple(headroom_answer(headroom, found) for headroom, found in numbers)
        answer = LintAnswer(
            model=shown(path),
            findings=lint_findings(findings),
            costs=tuple(map(costs_answer, costs)),
            headroom=functions,
        )
        print(render(answer))
        return 0
    lines = format_findings(findings)
    for each in costs:
        lines += ["", *format_costs(each)]
    for headroom, found in numbers:
        lines += ["", *format_headroom(headroom), *(format_findings(found) if found else ())]
    print(visible("\n".join(lines)))
    return 0


def _beside(path: Path) -> tuple[Mapping[str, JsonObject], Mapping[str, Place]]:
    """What the build record beside the model says of its inputs, and where its operators come from."""
    from builder.analysis.headroom.analyse import Place
    from builder.reports.build_json import read_build_json

    try:
        document = read_build_json(path.parent)
    except (FileNotFoundError, ValueError):
        return {}, {}
    if Path(document["artifact"]["path"]).name != path.name:
        return {}, {}
    inputs = {
        name: given for name, given in (document["config"].get("input") or {}).items() if isinstance(given, Mapping)
    }
    places = {
        row["name"]: Place(module=row["module"], line=row["line"])
        for headroom in document.get("headroom", ())
        for row in headroom["operators"]
    }
    rows = (row for costs in document.get("costs", ()) for row in costs["operators"])
    return inputs, {row["name"]: Place(module=row["module"], line="") for row in rows} | places


def _placed(costs: Costs, places: Mapping[str, Place]) -> Costs:
    """With the module of each operator that the build record knows."""
    modules = {name: place.module for name, place in places.items()}
    operators = (replace(each, module=modules.get(each.name, "")) for each in costs.operators)
    return replace(costs, operators=tuple(operators))
