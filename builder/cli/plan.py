"""`python -m builder plan recipe=…`: which stages the store has, which would run, and exactly why."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from builder.cli.arguments import Parser, outputs_folder
from builder.progress import Silent
from builder.store.explain import Change, format_changes
from builder.util.locations import shown
from builder.util.text import visible

if TYPE_CHECKING:
    from builder.artifacts.stages import BuildRequest
    from builder.cli.answers import PlanAnswer
    from builder.engine.plan import Plan


class Warnings(Silent):
    """Prints warnings about the store, and nothing else."""

    def warn(self, message: str, *, code: str) -> None:
        """Print it on stderr."""
        print(visible(f"warning[{code}]: {message}"), file=sys.stderr)


DESCRIPTION = """Say for every stage whether its result is in the store; nothing is built and torch is not loaded.

Below a stage that would run stand the inputs that changed since the nearest earlier result, old and new.
A stage behind it runs as well, unless what comes before gives what it gave then.
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("plan", DESCRIPTION, usage="plan recipe=NAME [key=value …]")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="the recipe, and what to change in it")
    made.add_argument("--outputs", default="outputs", metavar="FOLDER", help="where artifacts go (default: outputs)")
    made.offer_json()
    return made


def run(arguments: Sequence[str]) -> int:
    """Print the plan; returns the exit code."""
    given = parser().read(arguments)
    from builder.config.compose import compose
    from builder.engine.plan import plan

    request = compose(given.overrides)
    planned = plan(request, outputs=outputs_folder(given), progress=Warnings())
    if given.json:
        from builder.cli.answers import render

        print(render(plan_answer(request, planned)))
        return 0
    lines = [f"{report.name:<9} hit   {report.result}" for report in planned.found]
    for position, (stage, changes) in enumerate(planned.missed.items()):
        lines += _missed(stage, changes, first=position == 0)
    if not planned.missed:
        lines.append("up to date" if planned.artifact else "every stage is in the store; the output is written again")
    print(visible("\n".join(lines)))
    return 0


def plan_answer(request: BuildRequest, planned: Plan) -> PlanAnswer:
    """The document for a plan."""
    from builder.cli.answers import InputChange, PlanAnswer, PlannedStage
    from builder.reports.plain import plain

    stages = [PlannedStage(name=report.name, state="hit", result=report.result) for report in planned.found]
    for position, (stage, changes) in enumerate(planned.missed.items()):
        stages.append(
            PlannedStage(
                name=stage,
                state="miss" if position == 0 or changes else "after",
                is_new=changes is None,
                changes=tuple(InputChange(input=c.label, old=plain(c.old), new=plain(c.new)) for c in changes or ()),
            )
        )
    return PlanAnswer(
        recipe=request.recipe,
        variant=request.variant,
        state=state_of(planned),
        artifact=None if planned.artifact is None else shown(planned.artifact),
        stages=tuple(stages),
    )


def state_of(planned: Plan) -> Literal["up to date", "stored", "changed"]:
    """The one word for a plan."""
    return "changed" if planned.missed else "stored" if planned.artifact is None else "up to date"


def _missed(stage: str, changes: Sequence[Change] | None, *, first: bool) -> list[str]:
    reasons = format_changes(changes)
    if not first and changes == ():
        reasons = ["only if a stage before it gives something new"]
    word = "miss" if first or changes else "after"
    return [f"{stage:<9} {word:<5} {reasons[0] if reasons else ''}".rstrip(), *(f"{'':<15} {r}" for r in reasons[1:])]
