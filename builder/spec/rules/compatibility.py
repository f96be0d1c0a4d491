"""What cannot go together, found before anything is loaded: format, target, precision, compression, inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from builder.errors import Diagnostic
from builder.spec import SCHEMA_VERSION, BuildSpec
from builder.spec.checks import AccuracyCheck, ParityCheck
from builder.spec.inputs import is_flexible
from builder.spec.named_data import data_problems
from builder.spec.precision import Mixed
from builder.spec.problems import Path, needs
from builder.spec.rules.auto import auto_problems
from builder.spec.rules.compression import compression_problems
from builder.spec.rules.coreai import coreai_problems
from builder.spec.rules.detection import detection_problems
from builder.spec.rules.features import find_feature_problems
from builder.spec.rules.functions import function_problems
from builder.spec.rules.module_compression import module_compression_problems
from builder.spec.rules.source import source_problems
from builder.spec.substitution_kinds import substitution_named
from builder.spec.target import (
    CORE_AI,
    GENERATIONS,
    last_neural_network_target,
    same_system_name,
    target_of_format,
)

__all__ = ["Diagnostic", "find_incompatibilities"]


def find_incompatibilities(spec: BuildSpec) -> list[Diagnostic]:
    """Return every combination of settings in `spec` that cannot work, each with the change that would help.

    A recipe for an older system builds for the first with Core AI in `format: aimodel`, so that one recipe makes both.
    """
    spec = spec.model_copy(update={"target": target_of_format(spec.target, spec.format)})
    return [
        *_schema(spec),
        *_format(spec),
        *_precision(spec),
        *_compression(spec),
        *auto_problems(spec),
        *find_feature_problems(spec),
        *function_problems(spec),
        *detection_problems(spec),
        *_substitutions(spec),
        *source_problems(spec),
        *data_problems(spec),
        *_checks(spec),
    ]


def _schema(spec: BuildSpec) -> Iterator[Diagnostic]:
    if spec.schema_version != SCHEMA_VERSION:
        yield Diagnostic(
            code="B0217",
            path=("schema",),
            message=f"this builder reads recipes of schema {SCHEMA_VERSION}, and this one says {spec.schema_version}",
            hint=f"write `schema: {SCHEMA_VERSION}`, or use the version of builder that the recipe was written for",
        )


def _needs(spec: BuildSpec, path: Path, what: str, generation: int) -> Iterator[Diagnostic]:
    """Yield a problem when `what` came with a later generation than the target's."""
    yield from needs(spec.target, path, what, generation)


_RULES_OF_FORMATS: Mapping[str, Callable[[BuildSpec], Iterator[Diagnostic]]] = {"aimodel": coreai_problems}
"""What a format cannot do that others can."""


def _format(spec: BuildSpec) -> Iterator[Diagnostic]:
    if spec.format in _RULES_OF_FORMATS:
        yield from _RULES_OF_FORMATS[spec.format](spec)
    elif spec.target.generation >= CORE_AI:
        last = same_system_name(spec.target, GENERATIONS[-1])
        yield Diagnostic(
            code="B0240",
            path=("target",),
            message=f"coremltools does not know {spec.target.name} yet, and the format is {spec.format}",
            hint=f"write `target: {last}`, which later systems run as well, or `format: aimodel`",
        )
    elif spec.format_kind.is_program:
        yield from _needs(spec, ("format",), f"format {spec.format} (an ML program)", 15)
    elif spec.target.generation > 14:
        newest = last_neural_network_target(spec.target)
        yield Diagnostic(
            code="B0240",
            path=("format",),
            message=f"format mlmodel (a neural network) ends with {newest}, and the target is {spec.target.name}",
            hint=f"write `format: mlpackage`, or `target: {newest}`: later systems run it as well",
        )


def _precision(spec: BuildSpec) -> Iterator[Diagnostic]:
    if not spec.format_kind.is_program and isinstance(spec.precision, Mixed):
        yield Diagnostic(
            code="B0242",
            path=("precision",),
            message="a neural network (format mlmodel) has one precision; mixed needs an ML program",
            hint="write `format: mlpackage` with target ios15 or later, or `precision: fp16`",
        )


def _compression(spec: BuildSpec) -> Iterator[Diagnostic]:
    yield from module_compression_problems(spec)
    yield from compression_problems(spec.program_compression, spec.target, spec.format, spec.precision.kind)


def _substitutions(spec: BuildSpec) -> Iterator[Diagnostic]:
    flexible = [name for name, given in spec.artifact_inputs.items() if is_flexible(given)]
    for name, substitution in spec.substitutions.items():
        shipped = substitution_named(substitution.kind)
        if shipped is not None and shipped.fixes_size and flexible:
            yield Diagnostic(
                code="B0254",
                path=("substitutions", name),
                message=f"{substitution.kind} fixes sizes, and input {flexible[0]} has a flexible shape",
                hint="give the input one shape, or leave the substitution out",
            )


def _keeps_boxes(spec: BuildSpec) -> bool:
    return spec.detection is not None and spec.detection.output == "nms"


def _checks(spec: BuildSpec) -> Iterator[Diagnostic]:
    for name, check in spec.checks.items():
        if isinstance(check, ParityCheck) and check.boxes_matched is not None and not _keeps_boxes(spec):
            yield Diagnostic(
                code="B0255",
                path=("checks", name, "boxes_matched"),
                message="boxes_matched is about non-maximum suppression, and the recipe has none",
            )
        if spec.classifier is not None:
            continue
        if isinstance(check, AccuracyCheck):
            yield Diagnostic(
                code="B0255", path=("checks", name), message="accuracy needs a classifier, and the recipe has none"
            )
        for measure in ("top1_agreement", "top5_agreement") if isinstance(check, ParityCheck) else ():
            if getattr(check, measure) is not None:
                yield Diagnostic(
                    code="B0255",
                    path=("checks", name, measure),
                    message=f"{measure} is about classes, and the recipe has no classifier",
                )
