"""The artifact loads, and declares the names, shapes, dtypes, labels and metadata of the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from builder.artifacts.checks import CheckReport
from builder.artifacts.stages import PreparedModel, Suppression
from builder.backends import backend_of
from builder.backends.description import SEEDED_KEY, ArtifactDescription, shown_description
from builder.backends.interface import Backend
from builder.checks.subject import Subject
from builder.spec import BuildSpec
from builder.spec.checks import StructureCheck
from builder.spec.detection_names import DETECTED, THRESHOLDS


def structure_reports(name: str, check: StructureCheck, subject: Subject) -> Iterator[CheckReport]:
    """The one report of the check."""
    yield check_structure(name, check, subject)


def check_structure(name: str, check: StructureCheck, subject: Subject) -> CheckReport:
    """Read the saved file's own description and compare it with the recipe."""
    spec, prepared, sealed = subject.spec, subject.prepared, subject.sealed
    backend = backend_of(sealed.format)
    try:
        found = backend.describe(sealed.path)
    except Exception as error:
        return _report(name, check, {}, f"the artifact does not load: {error}")
    found = _function(subject, found)
    failures = [
        *_compare_suppression(prepared, found),
        *_compare_inputs(backend, spec, prepared, found),
        *_compare_states(spec, prepared, found),
        *_compare_outputs(backend, spec, prepared, found),
        *_compare_labels(prepared, found, is_named=_names_classes(spec, prepared, found)),
        *_compare_metadata(spec, found, is_finished=subject.captured.method == "coreml"),
    ]
    if check.bytes is not None and not check.bytes.holds(sealed.size_bytes):
        failures.append(f"the artifact has {sealed.size_bytes} bytes, outside the limit")
    values = {"bytes": sealed.size_bytes, "operators": sum(found.op_counts.values())}
    return _report(name, check, values, "; ".join(failures) or None)


def _function(subject: Subject, found: ArtifactDescription) -> ArtifactDescription:
    """What the file says of the function that is looked at; nothing, where it does not have it."""
    if not subject.function:
        return found
    own = found.functions.get(subject.function, {})
    inputs, outputs, states = (own.get(kind, ()) for kind in ("inputs", "outputs", "states"))
    return replace(found, inputs=inputs, outputs=outputs, states=states)


def _report(name: str, check: StructureCheck, values: Mapping[str, object], failure: str | None) -> CheckReport:
    limits = {} if check.bytes is None else {"bytes": check.bytes.model_dump(exclude_none=True)}
    return CheckReport(
        name=name, kind=check.kind, engine="none", values=values, limits=limits, passed=not failure, reason=failure
    )


def _compare_inputs(
    backend: Backend, spec: BuildSpec, prepared: PreparedModel, found: ArtifactDescription
) -> Iterator[str]:
    declared = {feature["name"]: feature for feature in found.inputs}
    names = [*spec.artifact_inputs, *(THRESHOLDS if prepared.suppression is not None else ())]
    if list(declared) != names:
        yield f"inputs are {', '.join(declared)}, and the recipe says {', '.join(names)}"
        return
    if prepared.suppression is not None:
        for name in THRESHOLDS:
            yield from _differences(f"input {name}", {"kind": "double", "optional": True}, declared[name])
    for name, given in spec.artifact_inputs.items():
        feature: dict[str, Any] = dict(declared[name])
        for key in ("enumerated_shapes", "enumerated_sizes"):
            if key in feature:
                feature[key] = sorted(feature[key])
        if feature.get("dtype") == "float64":  # a finished neural network, which computes in single precision
            feature["dtype"] = "float32"
        wanted = backend.wanted_input(given)
        for key in ("ranges", "size_ranges"):  # -1: without an end, which no recipe can say
            if key in feature and wanted[key] is not None:
                ends = zip(feature[key], wanted[key], strict=True)
                feature[key] = [[low, top if high < 0 else high] for (low, high), (_, top) in ends]
        yield from _differences(f"input {name}", wanted, feature)


def _compare_states(spec: BuildSpec, prepared: PreparedModel, found: ArtifactDescription) -> Iterator[str]:
    declared = {feature["name"]: feature for feature in found.states}
    if sorted(declared) != sorted(spec.state):
        yield f"states are {', '.join(declared) or 'none'}, and the recipe says {', '.join(spec.state) or 'none'}"
        return
    buffers = dict(prepared.module.named_buffers(remove_duplicate=False)) if prepared.states else {}
    for name, path in prepared.states.items():
        wanted = {"kind": "state", "shape": list(buffers[path].shape), "dtype": spec.state[name].dtype}
        yield from _differences(f"state {name}", wanted, declared[name])


def _compare_outputs(
    backend: Backend, spec: BuildSpec, prepared: PreparedModel, found: ArtifactDescription
) -> Iterator[str]:
    if prepared.suppression is not None:
        yield from _compare_detected(prepared, prepared.suppression, found)
        return
    wanted = [*prepared.output_names, *backend.label_outputs(spec)]
    names = [feature["name"] for feature in found.outputs]
    if sorted(names) != sorted(wanted):
        yield f"outputs are {', '.join(names)}, and the recipe says {', '.join(wanted)}"
        return
    declared = {feature["name"]: feature for feature in found.outputs}
    for index, name in enumerate(prepared.output_names):
        yield from _differences(f"output {name}", backend.wanted_output(index, name, spec), declared[name])


def _compare_detected(prepared: PreparedModel, stage: Suppression, found: ArtifactDescription) -> Iterator[str]:
    """A detector gives boxes and confidences, up to as many as the recipe says."""
    declared = {feature["name"]: feature for feature in found.outputs}
    if list(declared) != list(DETECTED):
        yield f"outputs are {', '.join(declared)}, and a detector has {', '.join(DETECTED)}"
        return
    for name, columns in zip(DETECTED, (len(prepared.labels or ()), 4), strict=True):
        wanted = {"kind": "tensor", "ranges": [[0, stage.detections], [columns, columns]]}
        yield from _differences(f"output {name}", wanted, declared[name])


def _compare_suppression(prepared: PreparedModel, found: ArtifactDescription) -> Iterator[str]:
    """The last stage of a detector has the thresholds of the recipe, and drops boxes by class."""
    if prepared.suppression is None:
        return
    if found.suppression is None:
        yield "the artifact does not end with non-maximum suppression"
        return
    wanted = {"iou_threshold": prepared.suppression.iou_threshold, "per_class": True}
    wanted["confidence_threshold"] = prepared.suppression.confidence_threshold
    yield from _differences("non-maximum suppression", wanted, found.suppression)


def _compare_metadata(spec: BuildSpec, found: ArtifactDescription, *, is_finished: bool) -> Iterator[str]:
    stated = spec.metadata.model_dump(exclude={"user"})
    stated["description"] = shown_description(spec.metadata.description, seeded=SEEDED_KEY in found.metadata)
    if is_finished:  # a Core ML file keeps what the recipe leaves out
        stated = {name: value for name, value in stated.items() if getattr(spec.metadata, name)}
    yield from _differences("metadata", stated, found.shown)
    yield from _differences("metadata", spec.metadata.user, found.metadata)


def _names_classes(spec: BuildSpec, prepared: PreparedModel, found: ArtifactDescription) -> bool:
    """Whether the artifact must name the recipe's classes; with raw boxes it may, where its format has a place."""
    is_raw = spec.detection is not None and found.labels is not None
    return is_raw or spec.classifier is not None or prepared.suppression is not None


def _compare_labels(prepared: PreparedModel, found: ArtifactDescription, *, is_named: bool) -> Iterator[str]:
    wanted = prepared.labels if is_named else None
    if wanted != found.labels:
        count = 0 if found.labels is None else len(found.labels)
        yield f"the artifact has {count} labels that are not the {len(wanted or ())} of the recipe"


def _differences(what: str, wanted: Mapping[str, object], found: Mapping[str, object]) -> Iterator[str]:
    for key, value in wanted.items():
        if found.get(key) != value:
            yield f"{what}: {key} is {found.get(key)}, and the recipe says {value}"
