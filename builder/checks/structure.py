"""The artifact loads, and declares the names, shapes, dtypes and labels that the recipe asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from builder.artifacts import CheckReport, PreparedModel
from builder.checks.subject import Subject
from builder.description import ArtifactDescription, describe_artifact
from builder.spec import BuildSpec
from builder.spec.checks import StructureCheck
from builder.spec.inputs import ImageInput, captured_shape


def check_structure(name: str, check: StructureCheck, subject: Subject) -> CheckReport:
    """Read the saved file's own description and compare it with the recipe."""
    spec, prepared, sealed = subject.spec, subject.prepared, subject.sealed
    try:
        found = describe_artifact(sealed.path)
    except Exception as error:
        return _report(name, check, {}, f"the artifact does not load: {error}")
    failures = [
        *_compare_inputs(spec, found),
        *_compare_outputs(spec, prepared, found),
        *_compare_labels(prepared, found),
    ]
    if check.bytes is not None and not check.bytes.holds(sealed.size_bytes):
        failures.append(f"the artifact has {sealed.size_bytes} bytes, outside the limit")
    values = {"bytes": sealed.size_bytes, "operators": sum(found.op_counts.values())}
    return _report(name, check, values, "; ".join(failures) or None)


def _report(name: str, check: StructureCheck, values: Mapping[str, Any], failure: str | None) -> CheckReport:
    limits = {} if check.bytes is None else {"bytes": check.bytes.model_dump(exclude_none=True)}
    return CheckReport(
        name=name, kind=check.kind, engine="none", values=values, limits=limits, passed=not failure, reason=failure
    )


def _compare_inputs(spec: BuildSpec, found: ArtifactDescription) -> Iterator[str]:
    declared = {feature["name"]: feature for feature in found.inputs}
    if list(declared) != list(spec.input):
        yield f"inputs are {', '.join(declared)}, and the recipe says {', '.join(spec.input)}"
        return
    for name, given in spec.input.items():
        feature, shape = declared[name], captured_shape(given)
        if isinstance(given, ImageInput):
            wanted = {"kind": "image", "height": shape[2], "width": shape[3], "color_layout": given.color_layout}
        else:
            wanted = {"kind": "tensor", "shape": list(shape), "dtype": given.dtype}
        yield from _differences(f"input {name}", wanted, feature)


def _compare_outputs(spec: BuildSpec, prepared: PreparedModel, found: ArtifactDescription) -> Iterator[str]:
    wanted = list(prepared.output_names)
    if spec.classifier is not None:
        wanted.append(spec.classifier.predicted_feature_name)
    names = [feature["name"] for feature in found.outputs]
    if sorted(names) != sorted(wanted):
        yield f"outputs are {', '.join(names)}, and the recipe says {', '.join(wanted)}"
        return
    declared = {feature["name"]: feature for feature in found.outputs}
    for index, name in enumerate(prepared.output_names):
        if index == 0 and spec.classifier is not None:
            yield from _differences(f"output {name}", {"kind": "dictionary"}, declared[name])
        elif name in spec.output and spec.output[name].dtype is not None:
            yield from _differences(f"output {name}", {"dtype": spec.output[name].dtype}, declared[name])


def _compare_labels(prepared: PreparedModel, found: ArtifactDescription) -> Iterator[str]:
    if prepared.labels != found.labels:
        count = 0 if found.labels is None else len(found.labels)
        yield f"the artifact has {count} labels that are not the {len(prepared.labels or ())} of the recipe"


def _differences(what: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    for key, value in wanted.items():
        if found.get(key) != value:
            yield f"{what}: {key} is {found.get(key)}, and the recipe says {value}"
