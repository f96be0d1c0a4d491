"""A trial of a search: its settings, what became of its build, and whether that counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from builder.jobs.jobs import Outcome
from builder.jobs.table import row_of
from builder.search.measures import UnmeasuredError, Worst, value_of
from builder.search.settings import Constraint, Objective, Search
from builder.search.space import Point

State = Literal["complete", "infeasible", "pruned", "failed", "running"]
"""`infeasible`: built and measured, but a check or a constraint is missed; `running`: not finished, maybe for ever."""

CHECKS = "checks"
"""The constraint that every search has: no check of the recipe misses its limit."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial, as the study keeps it."""

    number: int
    """From 1, in the order in which they were asked for."""
    point: Point
    arguments: tuple[str, ...]
    """The command line of its build, after `python -m builder`."""
    state: State
    reason: str = ""
    """Why it does not count."""
    values: Mapping[str, float] = field(default_factory=dict)
    """By objective."""
    excesses: Mapping[str, float] = field(default_factory=dict)
    """By constraint, by how much it is missed; 0 or less where it is kept."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """By constraint, its measured value."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What the artifact costs, by name."""
    exit_code: int = 0
    seconds: float = 0.0
    variant: str = ""
    artifact: str = ""
    digest: str = ""
    log: str = ""

    def facts(self) -> dict[str, Any]:
        """What is kept of it beside Optuna's own columns."""
        return {name: value for name, value in asdict(self).items() if name not in ("number", "point")}


def finished(number: int, point: Point, outcome: Outcome, search: Search, *, pruned: str | None) -> Trial:
    """What the outcome of a build means; `pruned` is the reason where the search stopped it."""
    row = row_of(outcome)
    common: dict[str, Any] = {
        "number": number,
        "point": point,
        "arguments": outcome.job.arguments,
        "exit_code": outcome.exit_code,
        "seconds": outcome.seconds,
        "variant": row.variant,
        "artifact": outcome.artifact,
        "digest": row.digest,
        "figures": row.figures,
        "log": "" if outcome.log is None else str(outcome.log),
    }
    if not outcome.succeeded and outcome.status != "broken":
        if pruned is not None:
            return Trial(**common, state="pruned", reason=pruned)
        return Trial(**common, state="failed", reason=outcome.message or outcome.status)
    try:
        values = {name: value_of(o.measure, row, _worst(o)) for name, o in search.objectives.items()}
        measured = {name: value_of(c.measure, row, _worst_of(c)) for name, c in search.constraints.items()}
    except UnmeasuredError as error:
        return Trial(**common, state="failed", reason=outcome.message or str(error))
    for name, value in values.items():
        if math.isnan(value):
            return Trial(**common, state="failed", reason=outcome.message or f"{name} is not a number")
    excesses = {name: search.constraints[name].excess(value) for name, value in measured.items()}
    excesses[CHECKS] = 0.0 if outcome.succeeded else 1.0
    missed = [f"{search.constraints[n].measure} is {measured[n]:.6g}" for n in measured if excesses[n] > 0]
    reason = "; ".join([*([outcome.message] if outcome.message else []), *missed])
    state: State = "infeasible" if any(excess > 0 for excess in excesses.values()) else "complete"
    return Trial(**common, state=state, reason=reason, values=values, excesses=excesses, measured=measured)


def _worst(objective: Objective) -> Worst:
    return "largest" if objective.goal == "minimize" else "smallest"


def _worst_of(constraint: Constraint) -> Worst:
    return "largest" if constraint.min is None else "smallest"
