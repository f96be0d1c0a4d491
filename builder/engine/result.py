"""Every stage of one build, done, and what is written down of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.artifacts import (
    AutoResult,
    BuildRecord,
    BuildRequest,
    CheckReport,
    LayerWeights,
    LintFinding,
    LoadedModel,
    MeasuredSteps,
    SealedPackage,
    StageReport,
)
from builder.artifacts.effects import with_measures
from builder.backends import backend_of
from builder.engine.auto_stage import chosen_of
from builder.engine.branch import Branch
from builder.engine.records import compression, effects, findings, lowerings, skipped
from builder.engine.runner import Stage
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.stages.measure import measured_steps
from builder.store.keys import tool_versions
from builder.util.git import git_state
from builder.util.redact import redacted_values


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """Every stage of one build, done."""

    spec: BuildSpec
    """What was built: the request's, with what was chosen in the place of `auto`."""
    loaded: Stage[LoadedModel]
    chosen: Stage[AutoResult] | None
    branches: Mapping[str, Branch]
    """By function, in order; one under an empty name where the artifact has no functions."""
    sealed: Stage[SealedPackage]
    verified: Stage[tuple[CheckReport, ...]]
    measured: Stage[MeasuredSteps | None] | None
    """What each compression step costs; None where there is nothing to measure."""

    @property
    def first(self) -> Branch:
        """The branch of the artifact without functions, or of the function that an app gets when it names none."""
        return next(iter(self.branches.values()))


def make_record(
    request: BuildRequest, result: BuildResult, reports: tuple[StageReport, ...], began: str
) -> BuildRecord:
    """Write down what a build did; where it lies and how long it took are filled in when it is published."""
    from builder.analysis.neural_engine.inspect import accepted

    loaded, prepared, sealed = result.loaded.record, result.first.prepared.record, result.sealed.record
    converted, compressed = result.first.converted.record, result.first.compressed.record
    checks, artifact = result.verified.value(), result.sealed.value()
    modules = converted["modules"]
    costs = None if result.measured is None else measured_steps(result.measured.record)
    return BuildRecord(
        request=recorded(request),
        variant=variant_of(request.variant, seeded=loaded["seeded"]),
        status="broken" if any(check.passed is False for check in checks) else "built",
        key=next(report.key for report in reports if report.name == "seal"),
        artifact=artifact,
        stages=reports,
        checks=checks,
        inputs=tuple(sealed["inputs"]),
        outputs=tuple(sealed["outputs"]),
        functions=sealed["functions"],
        source={**loaded["origin"], **_file_name(request.spec, loaded["origin"]), "seeded": loaded["seeded"]},
        substitutions=effects(prepared),
        lowerings=lowerings(converted),
        compression=compression(prepared) + with_measures(compression(compressed), costs, checks),
        conversion=None if costs is None else costs.conversion,
        skipped_layers=skipped(prepared) + skipped(compressed),
        op_counts=sealed["op_counts"],
        capture={**result.first.captured.record, "failures": dict(result.first.failures)},
        versions=tool_versions(backend_of(request.spec.format).packages),
        git=git_state(),
        started=began,
        seconds=0.0,
        seeded=loaded["seeded"],
        fallback=loaded["fallback"],
        source_bytes=loaded["source_bytes"],
        labels=None if prepared["labels"] is None else tuple(prepared["labels"]),
        weights=tuple(
            LayerWeights(**{**entry, "module": modules.get(entry["output"], "")}) for entry in sealed["weights"]
        ),
        lint=accepted((*findings(sealed), *_numeric(checks)), request.spec.lint.ignore),
        chosen=None if result.chosen is None else chosen_of(result.chosen.record),
        decided=None if result.chosen is None else result.spec,
    )


def _numeric(checks: Sequence[CheckReport]) -> list[LintFinding]:
    """What the lint of numbers found, in all functions."""
    return [finding for check in checks if check.headroom is not None for finding in check.headroom.findings]


def recorded(request: BuildRequest) -> BuildRequest:
    """A request as it is recorded, shown and sent: without the passwords and queries of addresses."""
    arguments = tuple(redacted_values(argument) for argument in request.overrides)
    return replace(request, config=redacted_values(dict(request.config)), overrides=arguments)


def variant_of(requested: str, *, seeded: bool) -> str:
    """Return the variant's name, which says where weights fell back."""
    if not seeded:
        return requested
    return "seeded" if requested == "default" else f"{requested},seeded"


def log_details(record: BuildRecord, progress: Progress) -> None:
    """What only `-v` and the log show: every replacement, every weight left alone, every value of every check."""
    for kept in record.chosen.kept if record.chosen else ():
        progress.detail(f"choose {kept.operator} {kept.name} of {kept.module or 'no module'}: {kept.reason}")
    for effect in record.substitutions:
        progress.detail(f"substitution {effect.name}: {', '.join(effect.replaced) or 'nothing'} replaced")
        progress.detail(f"substitution {effect.name}: outputs changed by at most {effect.max_abs:.3g}")
    for step in record.compression:
        for name, measured in step.alone.items():
            progress.detail(f"compression {step.name} alone ({step.engine}): {name} {measured}")
    for name, measured in record.conversion.outputs.items() if record.conversion else ():
        progress.detail(f"conversion, before compression (runtime): {name} {measured}")
    for lowering in record.lowerings:
        progress.detail(f"lowering {lowering.operator}: {lowering.times} converted by ours; {lowering.why}")
    for finding in record.lint:
        progress.detail(f"lint {finding.rule} ({finding.confidence}), {finding.count} times: {finding.examples[0]}")
    for layer in record.skipped_layers:
        progress.detail(f"compression {layer.step} left {layer.name} alone: {layer.reason}")
    for check in record.checks:
        for name, value in check.values.items():
            progress.detail(f"check {check.name} ({check.engine}): {name} {value}")


def _file_name(spec: BuildSpec, origin: Mapping[str, Any]) -> dict[str, str]:
    """What the recipe calls the source's file: the store knows its content, whatever it was called before."""
    named = getattr(spec.source, "file", None) or getattr(spec.source, "folder", None)
    return {"file": Path(named).name} if named is not None and "file" in origin else {}
