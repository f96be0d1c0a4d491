"""What a build would do: found in the store and in the outputs, without running a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.artifacts.record import StageReport
from builder.artifacts.stages import BuildRequest
from builder.engine.pipeline import look_up
from builder.engine.result import variant_of
from builder.engine.run import stage_names
from builder.engine.runner import CacheMissError, StageRunner, open_runner, remote_store
from builder.engine.table import LOAD, SEAL, STAGES
from builder.progress import Progress, Silent
from builder.store.digests import artifact_digest
from builder.store.explain import Change, nearest_changes
from builder.util.paths import artifact_name, lock_of, variant_folder

if TYPE_CHECKING:
    from builder.artifacts.stored import Fallback


@dataclass(frozen=True, kw_only=True)
class Current:
    """A published artifact that is what a build would give."""

    artifact: Path
    fallback: Fallback | None
    """For untrained weights: how the network looked that did not give better ones."""


def current_artifact(request: BuildRequest, *, outputs: Path) -> Current | None:
    """Return the published artifact if it is what a build would give, reports included; None if one is needed.

    One is needed, too, where another build is at it, or was killed and left its lock and its files.
    """
    from builder.reports.current import is_recorded

    if lock_of(outputs, request.recipe, request.variant).exists():
        return None
    published = (variant_folder(outputs, request.recipe, variant_of(request.variant, seeded=s)) for s in (False, True))
    if not any(folder.is_dir() for folder in published):
        return None
    runner = open_runner(Silent(), peek=True)
    try:
        run = look_up(request, runner, Silent())
    except CacheMissError:
        return None
    finally:
        runner.remembered.save()
    loaded, sealed = run[LOAD].facts, run[SEAL]
    folder = variant_folder(outputs, request.recipe, variant_of(request.variant, seeded=loaded.seeded))
    artifact = folder / artifact_name(request.recipe, sealed.facts.format)
    if not is_recorded(folder, request, runner.reports):
        return None
    try:
        is_whole = artifact_digest(artifact) == sealed.output
    except OSError:
        return None
    return Current(artifact=artifact, fallback=loaded.fallback) if is_whole else None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a build would do: the stages that the store has, and from the first miss on why each must run."""

    found: tuple[StageReport, ...]
    missed: Mapping[str, Sequence[Change] | None]
    """By stage: what differs from the nearest earlier result, None where there is none at all."""
    artifact: Path | None
    """The published artifact, where it is up to date."""


def plan(request: BuildRequest, *, outputs: Path, progress: Progress) -> Plan:
    """Look up every stage without running any; what follows a miss is compared by its own inputs alone."""
    with remote_store(progress) as remote:
        found, missed = _looked_up(request, open_runner(progress, remote, peek=True), progress)
    current = None if missed else current_artifact(request, outputs=outputs)
    return Plan(found=found, missed=missed, artifact=None if current is None else current.artifact)


def _looked_up(
    request: BuildRequest, runner: StageRunner, progress: Progress
) -> tuple[tuple[StageReport, ...], dict[str, Sequence[Change] | None]]:
    missed: dict[str, Sequence[Change] | None] = {}
    try:
        look_up(request, runner, progress)
    except CacheMissError as miss:
        missed[miss.stage] = nearest_changes(runner.store, miss.stage, miss.inputs)
        stages = tuple(stage_names(STAGES, request.spec))
        for stage in stages[stages.index(miss.stage) + 1 :]:
            missed[stage] = nearest_changes(runner.store, stage, runner.inputs(stage, request.spec, {}))
    finally:
        runner.remembered.save()
    return runner.reports, missed
