"""The package of one artifact, or of two of the same recipe, from what the files declare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from builder.artifacts.record import BuildRecord
from builder.backends.description import ArtifactDescription
from builder.errors import ConfigurationError
from builder.spec import BuildSpec
from builder.spec.inputs import ImageInput, TensorInput
from builder.spec.target import BACKENDS, CORE_AI
from builder.swift.features import features
from builder.swift.interface import (
    Artifact,
    Function,
    Package,
    functions_of,
    generation_of_version,
    method_of,
    names_of,
    require_same,
    task_of,
)

_OURS = frozenset({"Feature", "Pictures", "CoreMLRunner", "CoreAIRunner", "ModelRunner", "StateStorage"})
"""Names of types in every package."""
_SHOWN = ("author", "license", "version", "description")


def package_of_record(record: BuildRecord) -> Package:
    """The package of a build's artifact, which may be gone from its place by now."""
    spec = record.request.spec
    states = [
        {"name": name, "kind": "tensor", "dtype": state.dtype, "shape": [1]} for name, state in spec.state.items()
    ]
    artifact = _artifact(record.artifact.path, record.artifact.digest)
    suppressed = spec.detection is not None and spec.detection.output == "nms"
    shown = {name: str(getattr(spec.metadata, name)) for name in _SHOWN}
    package = _package(
        artifact,
        {"inputs": record.inputs, "outputs": record.outputs},
        record.functions,
        states,
        record.labels or (),
        shown,
        suppressed=suppressed,
        generation=CORE_AI if artifact.framework == "coreai" else spec.system.generation,
        seeded=record.seeded,
    )
    return with_promises(package, spec)


def package_of_file(path: Path, digest: str, described: ArtifactDescription, *, generation: int | None) -> Package:
    """The package of a file; `generation` is the recipe's target, where that is known."""
    artifact = _artifact(path, digest)
    oldest = CORE_AI if artifact.framework == "coreai" else generation or generation_of_version(described.version)
    return _package(
        artifact,
        {"inputs": described.inputs, "outputs": described.outputs},
        described.functions,
        [{**each, "kind": "tensor"} for each in described.states],
        described.labels or (),
        described.shown,
        suppressed=described.suppression is not None,
        generation=oldest,
        seeded=described.shown.get("description", "").startswith("UNTRAINED"),
    )


def with_promises(package: Package, spec: BuildSpec | None) -> Package:
    """The package with the ranges of inputs that the recipe declares: the artifact was checked in them alone."""
    declared = {} if spec is None else spec.artifact_inputs
    return replace(package, functions=tuple(_promised(function, declared) for function in package.functions))


def _promised(function: Function, declared: Mapping[str, ImageInput | TensorInput]) -> Function:
    inputs = []
    for feature in function.inputs:
        given = declared.get(feature.name)
        if isinstance(given, TensorInput) and feature.kind == "array" and not feature.is_optional:
            low = 0.0 if given.low is None and feature.is_whole else given.low
            inputs.append(replace(feature, low=low, high=given.high))
        else:
            inputs.append(feature)
    return replace(function, inputs=tuple(inputs))


def joined(core_ml: Package, core_ai: Package) -> Package:
    """One package of both formats, with the interface of the Core ML file.

    Raises ConfigurationError where the two cannot stand behind one type.
    """
    require_same(core_ml.functions, core_ai.functions)
    if core_ml.task != core_ai.task:
        raise ConfigurationError(
            f"the Core ML file is for the task {core_ml.task}, the Core AI file for {core_ai.task}",
            code="B0229",
            hint="make a package of each",
        )
    return replace(core_ml, artifacts=(*core_ml.artifacts, *core_ai.artifacts), core_ai=core_ai.functions)


def _artifact(path: Path, digest: str) -> Artifact:
    suffix = path.suffix.removeprefix(".")
    if suffix not in BACKENDS:
        raise ConfigurationError(f"{path} is not an artifact", code="B0226")
    stem = f"{path.stem}_model" if path.stem in _OURS else path.stem  # Xcode generates a class of that name
    return Artifact(path=path, stem=stem, suffix=suffix, digest=digest.removeprefix("sha256:"))


def _package(
    artifact: Artifact,
    described: Mapping[str, object],
    functions: Mapping[str, Mapping[str, object]],
    states: Sequence[Mapping[str, object]],
    labels: Sequence[str],
    shown: Mapping[str, str],
    *,
    suppressed: bool,
    generation: int,
    seeded: bool,
) -> Package:
    found = functions_of(described, functions)
    kept = features(states)
    task = task_of(found, kept, labels, suppressed=suppressed)
    if len(found) == 1:
        found = (replace(found[0], method=method_of(task)),)
    module, type_ = names_of(artifact.stem, task)
    text = shown.get("description") or f"The model {artifact.stem}."
    return Package(
        module=module,
        type=type_,
        task=task,
        functions=found,
        states=kept,
        labels=tuple(labels),
        artifacts=(artifact,),
        core_ai=found if artifact.framework == "coreai" else (),
        generation=generation,
        shown={**{name: shown.get(name, "") for name in _SHOWN}, "description": text},
        seeded=seeded,
    )
