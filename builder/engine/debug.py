"""Builds a recipe and its reference, and finds out where the artifact goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import coreml_runtime as runtime
from builder.analysis.headroom.analyse import analyse, places
from builder.analysis.headroom.domain import domain_of
from builder.analysis.headroom.inputs import SECONDS, of_samples
from builder.analysis.numerics.findings import Findings, Suspect, noise_of, ranked
from builder.analysis.numerics.graph import pairs, read_nodes
from builder.analysis.numerics.operators import Comparison, Measured, compare_programs
from builder.analysis.numerics.remedies import RemedyContext, conversion_remedy, operator_remedy, substitution_remedy
from builder.analysis.numerics.samples import Missed, samples_to_compare
from builder.analysis.numerics.sums import NoiseSum
from builder.artifacts.headroom import Headroom
from builder.artifacts.stages import BuildRequest, CapturedProgram, Sample
from builder.backends import backend_of
from builder.checks.engine import engines
from builder.checks.subject import Subject
from builder.data import default_data
from builder.data.stress_samples import stress_inputs
from builder.engine.pipeline import seal_only
from builder.engine.run import Run
from builder.engine.table import CAPTURE, COMPRESS, CONVERT, PREPARE, SEAL
from builder.errors import ConfigurationError
from builder.progress import Progress
from builder.spec.precision import Fp32
from builder.spec.source_kinds import kind_of

SAMPLES = 2
"""How many samples both programs compute, all intermediate values of one at a time in memory."""


def debug(request: BuildRequest, *, folder: Path, progress: Progress, missed: Missed | None = None) -> Findings:
    """Build what `request` asks for, and the same in float32 without compression, and compare them.

    They are compared on those samples, and at those outputs, where a check has `missed` its limits.

    Raises ConfigurationError for what has no such reference, and whatever a build raises.
    """
    _refuse(request)
    request = _with_all_boxes(request)
    result = seal_only(request, folder=_made(folder / "artifact"), progress=progress)
    plain = request.spec.model_copy(update={"precision": Fp32(kind="fp32"), "compression": {}})
    original = seal_only(replace(request, spec=plain), folder=_made(folder / "reference"), progress=progress)
    missed = missed or Missed()
    samples = samples_to_compare(request.spec, result[PREPARE].value(), missed, SAMPLES)
    artifact, reference = result[SEAL].value().path, original[SEAL].value().path
    feeds = backend_of(request.spec.format).feeds
    compared = compare_programs(
        runtime.load(artifact),
        runtime.load(reference),
        [feeds(sample, request.spec) for sample in samples],
        outputs=missed.outputs,
        pairs=pairs(artifact, reference),
    )
    suspects = [
        *_rewrites(result),
        *_conversion(request, original, samples, missed.outputs, progress),
        *_operators(result, original, compared),
    ]
    return Findings(
        noise=compared.noise,
        suspects=ranked(suspects),
        unfit=_unfit(original, compared),
        compared=len(compared.measured),
        unmatched=compared.unmatched,
        samples=len(samples),
        headroom=_headroom(request, result, samples),
    )


def _headroom(request: BuildRequest, result: Run, samples: Sequence[Sample]) -> Headroom | None:
    """What is known of the artifact's values, on the samples that are compared and on stress inputs."""
    if not request.spec.format_kind.is_analysed:
        return None
    inputs = request.spec.artifact_inputs
    stress = stress_inputs(default_data(request.spec), inputs, request.spec.seed)
    return analyse(
        result[SEAL].value().path,
        domain_of(inputs),
        of_samples(samples, stress, SECONDS),
        places=places(result[CONVERT].facts),
    )


def _refuse(request: BuildRequest) -> None:
    if not request.spec.format_kind.is_program:
        raise ConfigurationError(
            "a neural network (.mlmodel) cannot be compared operator by operator",
            code="B0229",
            hint="write `format=mlpackage`, with a target from ios15 on",
            key="format",
        )
    if request.spec.functions:
        raise ConfigurationError(
            "the functions of an artifact are not compared one by one",
            code="B0229",
            hint="look at the model itself, at the shapes in `input`: add `~functions`",
            key="functions",
        )
    if kind_of(request.spec.source).is_finished:
        raise ConfigurationError(
            "a finished Core ML model has no original in float32 to compare with", code="B0229", key="source.kind"
        )


def _with_all_boxes(request: BuildRequest) -> BuildRequest:
    """A detector's boxes before the best are chosen: in their order, which no rounding changes, and as one program."""
    detection = request.spec.detection
    if detection is None or detection.output == "raw":
        return request
    raw = {"detection": detection.model_copy(update={"output": "raw"})}
    return replace(request, spec=request.spec.model_copy(update=raw))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _rewrites(result: Run) -> list[Suspect]:
    return [
        Suspect(
            kind="substitution",
            name=effect.name,
            noise=noise_of(effect.snr_db),
            modules=effect.replaced,
            remedy=substitution_remedy(effect),
        )
        for effect in result[PREPARE].value().substitutions
    ]


def _conversion(
    request: BuildRequest,
    original: Run,
    samples: Sequence[Sample],
    outputs: Sequence[str],
    progress: Progress,
) -> list[Suspect]:
    """What capture and conversion changed: PyTorch against the reference, at these outputs, or at all."""
    prepared, method = original[PREPARE].value(), original[CAPTURE].facts.method
    subject = Subject(
        spec=request.spec,
        prepared=prepared,
        captured=CapturedProgram(program=None, method=method),  # no engine looks at it
        sealed=original[SEAL].value(),
        progress=progress,
    )
    subject.reset()
    execute = engines(subject)[0].execute
    sums: dict[str, NoiseSum] = {}
    for sample in samples:
        expected, got = subject.run_original(prepared.uncompressed, sample), execute(sample)
        for name in {name for name in expected if name in outputs} or expected:
            sums.setdefault(name, NoiseSum()).add(expected[name].reshape(got[name].shape), got[name])
    noise = max((each.ratio for each in sums.values()), default=0.0)
    used = original[CONVERT].value().lowerings
    return [Suspect(kind="conversion", name=method, noise=noise, remedy=conversion_remedy(used))]


def _operators(result: Run, original: Run, compared: Comparison) -> list[Suspect]:
    """Every operator whose part in the error was measured."""
    steps = (*result[PREPARE].value().compression, *result[COMPRESS].value().effects)
    around = RemedyContext(
        spec=result.spec,
        artifact=read_nodes(result[SEAL].value().path),
        reference=read_nodes(original[SEAL].value().path),
        ranges=compared.ranges,
        changed={effect.name: effect.changed for effect in steps},
        modules=original[CONVERT].facts.modules,
    )
    modules = {**original[CONVERT].facts.modules, **result[CONVERT].facts.modules}

    def suspect(measured: Measured, noise: float) -> Suspect:
        module = modules.get(measured.name, modules.get(measured.given_name))  # a cast may bear its reader's
        paths = () if module is None else (module,)
        return Suspect(
            kind="operator",
            name=measured.name,
            noise=noise,
            operator=compared.operators.get(measured.name, measured.operator),
            modules=paths,
            own_noise=measured.own_noise,
            range=compared.ranges.get(measured.name),
            remedy=operator_remedy(measured, paths, around),
        )

    found = ranked([suspect(each, each.noise) for each in compared.measured if each.noise is not None])
    worst: dict[str, Suspect] = {}
    for each in found:
        worst.setdefault(each.name, each)  # of a value and its casts, the worst
    return list(worst.values())


def _unfit(original: Run, compared: Comparison) -> tuple[Suspect, ...]:
    modules = original[CONVERT].facts.modules
    return tuple(
        Suspect(
            kind="operator",
            name=name,
            noise=0.0,
            operator=compared.operators[name],
            modules=(modules[name],) if name in modules else (),
            range=found,
        )
        for name, found in compared.ranges.items()
        if found.is_unfit
    )
