"""What is written down of a build that is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.artifacts.checks import CheckReport
from builder.artifacts.costs import Costs
from builder.artifacts.effects import with_measures
from builder.artifacts.findings import LintFinding
from builder.artifacts.record import BuildRecord
from builder.artifacts.stages import BuildRequest
from builder.backends import backend_of
from builder.engine.run import Run
from builder.engine.table import CAPTURE, CHOOSE, COMPRESS, CONVERT, LOAD, MEASURE, PREPARE, SEAL, VERIFY
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.store.keys import tool_versions
from builder.util.git import git_state
from builder.util.redact import redacted_values

if TYPE_CHECKING:
    from builder.artifacts.origin import SourceOrigin
    from builder.artifacts.stored import LoadedFacts


def make_record(run: Run, began: str) -> BuildRecord:
    """Write down what a build did; where it lies and how long it took are filled in when it is published."""
    from builder.analysis.neural_engine.inspect import accepted

    request, reports = run.context.request, run.context.runner.reports
    loaded, prepared, sealed = run[LOAD].facts, run[PREPARE].facts, run[SEAL].facts
    converted, compressed, captured = run[CONVERT].facts, run[COMPRESS].facts, run[CAPTURE].facts
    checks, artifact = run[VERIFY].value(), run[SEAL].value()
    measured = run[MEASURE].facts.steps if MEASURE in run.results else None
    chosen = run[CHOOSE].facts if CHOOSE in run.results else None
    return BuildRecord(
        request=recorded(request),
        variant=variant_of(request.variant, seeded=loaded.seeded),
        status="broken" if any(check.passed is False for check in checks) else "built",
        key=run[SEAL].action.key,
        artifact=artifact,
        stages=reports,
        checks=checks,
        inputs=sealed.inputs,
        outputs=sealed.outputs,
        functions=sealed.functions,
        source=_source(run.spec, loaded),
        substitutions=prepared.substitutions,
        lowerings=converted.lowerings,
        compression=prepared.compression + with_measures(compressed.effects, measured, checks),
        conversion=None if measured is None else measured.conversion,
        skipped_layers=prepared.skipped + compressed.skipped,
        op_counts=sealed.op_counts,
        capture={"method": captured.method, "frozen": captured.frozen, "failures": dict(run.first.failures)},
        versions=tool_versions(backend_of(request.spec.format).packages),
        git=git_state(),
        started=began,
        seconds=0.0,
        seeded=loaded.seeded,
        fallback=loaded.fallback,
        source_bytes=loaded.source_bytes,
        labels=prepared.labels,
        weights=tuple(replace(layer, module=converted.modules.get(layer.output, "")) for layer in sealed.weights),
        lint=accepted((*sealed.lint, *_numeric(checks)), run.spec.lint.ignore),
        costs=tuple(_placed(costs, run) for costs in sealed.costs),
        chosen=chosen,
        decided=None if chosen is None else run.spec,
    )


def _placed(costs: Costs, run: Run) -> Costs:
    """With the PyTorch module of each operator, where the conversion of its function knows that."""
    function = run.functions.get(costs.function, run.first)
    modules = function[CONVERT].facts.modules
    placed = (replace(each, module=modules.get(each.name, "")) for each in costs.operators)
    return replace(costs, operators=tuple(placed))


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


def _source(spec: BuildSpec, loaded: LoadedFacts) -> SourceOrigin:
    """With the name that the recipe gives the file: the store knows its content, whatever it was called before."""
    source = loaded.origin.copy()
    named = getattr(spec.source, "file", None) or getattr(spec.source, "folder", None)
    if named is not None and "file" in source:
        source["file"] = Path(named).name
    source["seeded"] = loaded.seeded
    return source
