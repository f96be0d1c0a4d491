"""The Pareto front: the trials that no other one beats, and the one of them that becomes a recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from builder.search.settings import Objective, Search
from builder.search.trials import Trial

Objectives = Mapping[str, Objective]
Values = Mapping[str, float]


def dominates(one: Values, other: Values, objectives: Objectives) -> bool:
    """Whether `one` is at least as good in every objective and better in one."""
    pairs = [(_cost(one[name], o), _cost(other[name], o)) for name, o in objectives.items()]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _cost(value: float, objective: Objective) -> float:
    return value if objective.goal == "minimize" else -value


def front_of(trials: Sequence[Trial], objectives: Objectives) -> list[Trial]:
    """The complete trials that no other one dominates, best first in the first objective; of equal ones the first."""
    complete = [trial for trial in trials if trial.state == "complete"]
    best = [t for t in complete if not any(dominates(other.values, t.values, objectives) for other in complete)]
    first = {tuple(trial.values[name] for name in objectives): trial for trial in reversed(best)}
    return sorted(first.values(), key=lambda trial: [_cost(trial.values[name], o) for name, o in objectives.items()])


def winner_of(front: Sequence[Trial], search: Search) -> Trial | None:
    """The trial of the front that the search asks for, None where the front is empty."""
    if not front:
        return None
    if search.winner in search.objectives:
        objective = search.objectives[search.winner]
        return min(front, key=lambda trial: _cost(trial.values[search.winner], objective))
    scales = {name: _scale([_cost(t.values[name], o) for t in front]) for name, o in search.objectives.items()}

    def distance(trial: Trial) -> float:
        """From the best in all objectives, each of which goes from 0 to 1 over the front."""
        return math.hypot(*(_share(_cost(trial.values[n], o), *scales[n]) for n, o in search.objectives.items()))

    return min(front, key=distance)


def _scale(costs: Sequence[float]) -> tuple[float, float]:
    finite = [cost for cost in costs if math.isfinite(cost)] or [0.0]
    return min(finite), max(finite)


def _share(cost: float, low: float, high: float) -> float:
    if not math.isfinite(cost):
        return 0.0 if cost < 0 else 1.0
    return 0.0 if high == low else (cost - low) / (high - low)
