"""The diagnosis between prepare and convert: what of a model does not go, by every method that a build would try."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from builder.artifacts.stages import CapturedProgram, ExampleInputs, LoadedModel, PreparedModel
from builder.backends import backend_of
from builder.backends.coreml.lowerings.decomposed import written_out
from builder.backends.coreml.preflight.dry_run import Walk, dry_conversion
from builder.backends.coreml.preflight.exported import exported_operators
from builder.backends.coreml.preflight.known_bugs import bugs_met
from builder.backends.coreml.preflight.obstacles import (
    Attempt,
    Diagnosis,
    Obstacle,
    Remedy,
    Site,
    gather,
    most_important_first,
)
from builder.backends.coreml.preflight.operators import MODEL, Operator
from builder.backends.coreml.preflight.raised import Sites, Watch
from builder.backends.coreml.preflight.remedies import (
    candidates,
    named_target,
    other_method,
    reason,
    rewriting,
    substitution,
)
from builder.backends.coreml.preflight.rules import RULES, high_ranks, lost, rewritten
from builder.backends.coreml.preflight.torchscript import lost_writes, paired, rewritten_writes, torchscript_operators
from builder.engine.run import Run
from builder.engine.table.load import LOAD
from builder.engine.table.prepare import PREPARE
from builder.errors import BuilderError, ConversionError
from builder.model.capture.archive import archived
from builder.model.capture.methods import METHODS, methods_to_try
from builder.spec import BuildSpec
from builder.spec.source_kinds import kind_of
from builder.spec.substitutions import ShippedRewrite
from builder.spec.target import FORMATS, GENERATIONS, Target, same_system_name
from builder.stages.capture import ValueConstantError, capture
from builder.stages.prepare import prepare

_MISSING = "has no lowering, neither coremltools' nor ours"


@dataclass(frozen=True, kw_only=True)
class PreflightInput:
    """What is examined: a model with the recipe that would build it."""

    loaded: LoadedModel
    prepared: PreparedModel
    examples: ExampleInputs
    spec: BuildSpec


def examine_run(run: Run) -> Diagnosis:
    """What prevents a conversion of a prepared model; not a stage, since nothing follows from it to store."""
    return diagnose(
        PreflightInput(loaded=run[LOAD].value(), prepared=run[PREPARE].value(), examples=run.examples, spec=run.spec)
    )


def diagnose(patient: PreflightInput) -> Diagnosis:
    """Capture by the methods that a build would try, up to the first with nothing in the way, and look for remedies."""
    attempts: list[Attempt] = []
    for method in methods_to_try(patient.spec):
        attempts.append(attempt(patient, method))
        if not attempts[-1].in_the_way:
            break
    found = Diagnosis(attempts=tuple(attempts))
    if not found.best.in_the_way:
        return found
    best = found.best
    with_remedies = replace(best, obstacles=tuple(_with_remedies(patient, best, attempts)))
    return Diagnosis(attempts=tuple(with_remedies if each is best else each for each in attempts))


def attempt(patient: PreflightInput, method: str) -> Attempt:
    """Everything that capture by one method meets, without remedies."""
    if method == "coreml":
        return Attempt(method=method, obstacles=())
    watch = Watch(patient.prepared.module.get_submodule(MODEL))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            captured, differs = _captured(patient, method, watch)
        except BuilderError as error:
            return Attempt(
                method=method, obstacles=tuple(_without_program(error, method, patient, watch)), complete=False
            )
        operators, walk = _walk(captured, patient)
        has_writes = method in ("trace", "script")
        in_place = lost(lost_writes(captured.program)) if has_writes else []
        kept = rewritten(rewritten_writes(captured.program)) if has_writes else []
    bugs = bugs_met(operators, patient.spec, method, [operator for operator, _ in walk.ours])
    obstacles = [
        *_refused(walk),
        *high_ranks(walk.high_ranks),
        *in_place,
        *(o for rule in RULES for o in rule(operators)),
        *bugs,
    ]
    if any(o.rule == "in_place" for o in obstacles):  # which is why the program as a whole was refused, if it was
        obstacles = [o for o in obstacles if o.operator is not None or o.rule != "refused"]
    values = watch.values if kind_of(patient.spec.source).program is None else []  # of a file they are our own calls
    obstacles += [replace(o, severity="distorts") if differs else o for o in _frozen(values)]
    obstacles += _frozen(watch.branches)
    if differs is not None and not any(o.in_the_way for o in obstacles):
        obstacles.append(_capture_failed(differs, watch.sites))
    if not FORMATS[patient.spec.format].is_of_coremltools and not any(o.in_the_way for o in obstacles):
        obstacles += _refused_by_backend(captured, patient)
    ours = gather(
        "operator", [(operator, f"by builder's lowering of `{kind}`") for operator, kind in walk.ours], "note"
    )
    return Attempt(
        method=method, obstacles=most_important_first(obstacles), ours=(*kept, *ours), complete=walk.complete
    )


def _refused_by_backend(captured: CapturedProgram, patient: PreflightInput) -> Iterator[Obstacle]:
    """What a format whose converter is not coremltools' refuses of a program, found by a conversion."""
    try:
        backend_of(patient.spec.format).convert(patient.prepared, captured, patient.examples, patient.spec)
    except ConversionError as error:
        yield Obstacle(rule="refused", what=f"is refused: {error.message}", severity="stops")


def _captured(patient: PreflightInput, method: str, watch: Watch) -> tuple[CapturedProgram, ConversionError | None]:
    """The program, and the error that it computes something else for other values, if it does.

    Raises ConversionError when there is no program at all.
    """
    try:
        return capture(patient.prepared, patient.examples, method, {}, strict=True, watch=watch), None
    except ValueConstantError as error:
        return capture(patient.prepared, patient.examples, method, {}), error


def _walk(captured: CapturedProgram, patient: PreflightInput) -> tuple[Sequence[Operator], Walk]:
    """The operators of the program that a build converts, which is the one that it reads back from its archive."""
    with tempfile.TemporaryDirectory(prefix="builder-captured-") as folder:
        converted = written_out(archived(captured, Path(folder) / "program") or captured)
    operators: Sequence[Operator] | Mapping[str, Operator]
    if captured.method == "export":
        operators = exported_operators(converted.program)
    elif captured.method in ("trace", "script"):
        operators = paired(torchscript_operators(converted.program), torchscript_operators(captured.program))
    else:
        operators = ()
    walk = dry_conversion(converted, operators, patient.prepared, _walked_spec(patient.spec, captured.method))
    return (tuple(operators.values()) if isinstance(operators, Mapping) else operators), walk


def _walked_spec(spec: BuildSpec, method: str) -> BuildSpec:
    """The recipe that coremltools gets: what Core AI takes by no export of torch becomes an ML program first."""
    if method == "export" or FORMATS[spec.format].is_of_coremltools:
        return spec
    from builder.backends.coreai.programs import on_the_way

    return on_the_way(spec)


def _without_program(error: BuilderError, method: str, patient: PreflightInput, watch: Watch) -> Iterator[Obstacle]:
    """What kept capture from giving a program, with the lines that fix a size where that is the reason."""
    differing = list(watch.differing)
    if error.code == "B0403" and method == "export":  # torch says which size, and not where
        by_trace = watch.again()
        try:
            capture(patient.prepared, patient.examples, "trace", {}, watch=by_trace)
        except BuilderError:
            differing = by_trace.differing
        differing = differing or by_trace.branches
    if differing:
        yield Obstacle(
            rule="sizes",
            what=error.message.partition("; there, ")[0],
            severity="stops",
            sites=tuple(dict.fromkeys(site for site, _ in differing)),
        )
    else:
        yield _capture_failed(error, watch.sites)
    yield from _frozen(watch.values)


def _capture_failed(error: BuilderError, sites: Sites) -> Obstacle:
    site = sites.of_error(error)
    known = bool(site.module) or site.place is not None
    hinted = Remedy(kind="rewrite", summary=error.hint) if error.hint else None
    return Obstacle(rule="capture", what=error.message, severity="stops", sites=(site,) if known else (), remedy=hinted)


def _frozen(noted: Sequence[tuple[Site, str]]) -> list[Obstacle]:
    """What of the model's own code reads values; how a graph is run by us (ONNX) is not part of the model."""
    frozen = [(site, what) for site, what in noted if site.place is not None or site.module]
    whats = dict.fromkeys(what for _, what in frozen)
    return [
        Obstacle(
            rule="values",
            what=f"{what}, which the trace records as a constant, as it was on the first example",
            severity="note",
            sites=tuple(dict.fromkeys(site for site, other in frozen if other == what)),
            count=sum(other == what for _, other in frozen),
        )
        for what in whats
    ]


def _refused(walk: Walk) -> list[Obstacle]:
    missing = [(r.operator, _MISSING) for r in walk.refusals if r.is_missing]
    refused = [(r.operator, f"is refused by {r.by}: {r.summary}") for r in walk.refusals if not r.is_missing]
    obstacles = [
        *gather("operator", [(o, text) for o, text in missing if o is not None], "stops"),
        *gather("refused", [(o, text) for o, text in refused if o is not None], "stops"),
    ]
    for refusal in walk.refusals:
        if refusal.operator is None:
            rule, kind = ("operator", refusal.kind) if refusal.is_missing else ("refused", refusal.kind)
            what = (
                _MISSING
                if refusal.is_missing
                else f"{'is refused' if kind else 'the graph is refused'} by {refusal.by}: {refusal.summary}"
            )
            obstacles.append(Obstacle(rule=rule, what=what, severity="stops", operator=kind or None))
    return obstacles


def _with_remedies(patient: PreflightInput, best: Attempt, attempts: Sequence[Attempt]) -> Iterator[Obstacle]:
    tried = {each.method: each for each in attempts}

    def by(method: str) -> Attempt:
        if method not in tried:
            tried[method] = attempt(patient, method)
        return tried[method]

    for obstacle in best.obstacles:
        is_open = obstacle.in_the_way and obstacle.remedy is None
        yield replace(obstacle, remedy=_remedy(patient, best.method, obstacle, by)) if is_open else obstacle


def _remedy(patient: PreflightInput, method: str, obstacle: Obstacle, by: Callable[[str], Attempt]) -> Remedy:
    """The first of all ways that helps, the least change first; each that can be pasted was tried.

    Of a file that holds a program alone nobody can write the code otherwise, or replace modules.
    """
    has_modules = kind_of(patient.spec.source).has_modules
    return (
        _by_method(patient.spec, method, by)
        or (_by_substitution(patient, method, obstacle) if has_modules else None)
        or _by_target(patient, method, obstacle)
        or (rewriting(obstacle) if has_modules else None)
        or reason(obstacle, has_modules=has_modules)
    )


def _is_gone(obstacle: Obstacle, patient: PreflightInput, method: str) -> bool:
    """Whether capture by `method` meets nothing like `obstacle` at its places, and nothing that it did not meet."""
    return not any(
        other.rule in ("capture", "sizes") or (other.rule == obstacle.rule and other.operator == obstacle.operator)
        for other in attempt(patient, method).in_the_way
    )


def _by_method(spec: BuildSpec, method: str, by: Callable[[str], Attempt]) -> Remedy | None:
    """Another method of capture with nothing in the way at all; `script` is slow, and only for values that are read."""
    reads_values = any(obstacle.rule in ("values", "sizes", "capture") for obstacle in by(method).in_the_way)
    for other in METHODS if kind_of(spec.source).program is None else ():
        if other != method and (other != "script" or reads_values) and not by(other).in_the_way:
            return other_method(other)
    return None


def _by_substitution(patient: PreflightInput, method: str, obstacle: Obstacle) -> Remedy | None:
    """A shipped rewrite of the modules that it comes from, tried: after it the obstacle is gone."""
    model = patient.loaded.module
    for kind, modules in candidates(model, obstacle):
        section = ShippedRewrite(kind=kind, modules=list(modules))
        spec = patient.spec.model_copy(update={"substitutions": {**patient.spec.substitutions, kind: section}})
        try:
            prepared = prepare(patient.loaded, patient.examples, spec)
        except BuilderError:
            continue
        if _is_gone(obstacle, replace(patient, prepared=prepared, spec=spec), method):
            return substitution(kind, modules)
    return None


def _by_target(patient: PreflightInput, method: str, obstacle: Obstacle) -> Remedy | None:
    """The oldest later target with which the obstacle is gone, where coremltools says that a target is in the way."""
    target = patient.spec.target
    later = [g for g in GENERATIONS if g > target.generation and g >= 15]
    if obstacle.rule != "refused" or "deployment" not in obstacle.what or not later:
        return None

    def works(generation: int) -> bool:
        changed: dict[str, object] = {
            "target": Target(name=same_system_name(target, generation)),
            "format": "mlpackage",
        }
        return _is_gone(obstacle, replace(patient, spec=patient.spec.model_copy(update=changed)), method)

    if not works(later[-1]):
        return None
    return named_target(same_system_name(target, next(g for g in later if works(g))), patient.spec.format)
