"""The MLflow runs of a search: one of the whole, and one for each trial whose build did not come to its own run."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from builder.artifacts.stages import BuildRequest
from builder.search.settings import Search
from builder.search.table import cells, counted, headings, point_text
from builder.search.trials import Trial
from builder.tracking.run import LONGEST_TAG, LONGEST_VALUE, TrackedRun, config_params, metric_key, user_name

_STATUS = {"pruned": "KILLED", "failed": "FAILED"}
"""MLflow's word for each state of a trial that never came to an artifact."""


def summary_run(
    trials: Sequence[Trial],
    front: Sequence[Trial],
    winner: Trial | None,
    search: Search,
    *,
    recipe: str,
    study: str,
    identifier: str,
    arguments: Sequence[str],
    started: float,
    ended: float,
) -> TrackedRun:
    """The run for what was searched from `started` to `ended` (seconds since 1970); `FAILED` where nothing counts."""
    figures = {f"trials/{state}": float(count) for state, count in Counter(trial.state for trial in trials).items()}
    figures |= {"trials/total": float(len(trials)), "front/size": float(len(front)), "seconds/total": ended - started}
    for trial in front:
        figures |= {f"front/{metric_key(n)}/{trial.number:04}": value for n, value in trial.values.items()}
    if winner is not None:
        figures |= {f"winner/{metric_key(name)}": value for name, value in winner.values.items()}
    tags = {
        "builder.kind": "search",
        "status": "built" if front else "failed",
        "mlflow.note.content": _note(trials, front, winner, search),
    }
    params = {"arguments": " ".join(arguments)} | {
        metric_key(name): json.dumps(value, ensure_ascii=False) for name, value in search.model_dump().items()
    }
    params |= {f"winner.{metric_key(n)}": str(value) for n, value in (winner.point if winner else {}).items()}
    return TrackedRun(
        name=f"search {recipe} {study}",
        status="FINISHED" if front else "FAILED",
        started_ms=round(started * 1000),
        ended_ms=round(ended * 1000),
        params={name: value[:LONGEST_VALUE] for name, value in params.items()},
        metrics={name: value for name, value in figures.items() if math.isfinite(value)},
        tags=_tags(tags, recipe=recipe, study=study, identifier=identifier),
    )


def trial_run(trial: Trial, request: BuildRequest, *, study: str, identifier: str, ended: float) -> TrackedRun:
    """The run of a trial that was pruned or failed before it had an artifact; `ended` in seconds since 1970.

    A build that comes to an artifact records itself, whether it passes or not.
    """
    tags = {
        "builder.kind": "trial",
        "status": trial.state,
        "reason": trial.reason,
        "variant": request.variant,
        "mlflow.note.content": f"**{trial.state}**: {trial.reason}",
    }
    return TrackedRun(
        name=f"{request.recipe}/{request.variant}",
        status=_STATUS[trial.state],
        started_ms=round((ended - trial.seconds) * 1000),
        ended_ms=round(ended * 1000),
        params=config_params(request.config),
        metrics={"seconds/total": trial.seconds},
        tags=_tags(tags, recipe=request.recipe, study=study, identifier=identifier),
    )


def _tags(own: Mapping[str, str], *, recipe: str, study: str, identifier: str) -> dict[str, str]:
    """The tags of a run: its own, and those that all runs of a search have."""
    tags = {
        **own,
        "sweep_id": identifier,
        "recipe": recipe,
        "search": study,
        "mlflow.user": user_name(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "builder search",
    }
    return {name: value[:LONGEST_TAG] for name, value in sorted(tags.items()) if value}


def _note(trials: Sequence[Trial], front: Sequence[Trial], winner: Trial | None, search: Search) -> str:
    """The description at the head of the run's page, in Markdown."""
    heads = ["trial", "settings", *headings(search)]
    lines = [f"{counted(trials)}; the front:", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for trial in front:
        number = f"**{trial.number}**" if winner is not None and trial.number == winner.number else str(trial.number)
        row = [number, point_text(trial), *cells(trial, search)]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |")
    return "\n".join(lines)
