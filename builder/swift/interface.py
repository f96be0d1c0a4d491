"""What one Swift package offers: its names, its task, its functions, and which systems it runs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from builder.errors import ConfigurationError
from builder.spec.detection_names import DETECTED
from builder.spec.target import BACKENDS, system_versions
from builder.swift.features import Feature, features
from builder.swift.words import identifiers, module_name

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

Task = Literal["classifier", "detector", "segmenter", "filter", "embedding", "step", "arrays"]

_SUFFIXES: Mapping[Task, str] = {
    "classifier": "Classifier", "detector": "Detector", "segmenter": "Segmenter", "filter": "Filter",
    "embedding": "Encoder",
}  # fmt: skip
_METHODS: Mapping[Task, str] = {
    "classifier": "classify", "detector": "detect", "segmenter": "segment", "filter": "apply", "embedding": "encode",
}  # fmt: skip
_LOCALS = ("state",)
"""Names that methods use for themselves."""


@dataclass(frozen=True, kw_only=True)
class Function:
    """One function of the artifact, as a method."""

    name: str
    method: str
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]

    @property
    def pictures(self) -> tuple[Feature, ...]:
        """The inputs that are pictures."""
        return tuple(each for each in self.inputs if each.kind == "picture")


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One file that the package holds."""

    path: Path
    stem: str
    suffix: str
    digest: str

    @property
    def framework(self) -> str:
        """`coreml` or `coreai`."""
        return BACKENDS[self.suffix]

    @property
    def file(self) -> str:
        """The file's name in the package."""
        return f"{self.stem}.{self.suffix}"


@dataclass(frozen=True, kw_only=True)
class Package:
    """Everything that the templates write of."""

    module: str
    type: str
    task: Task
    functions: tuple[Function, ...]
    states: tuple[Feature, ...]
    labels: tuple[str, ...]
    artifacts: tuple[Artifact, ...]
    core_ai: tuple[Function, ...]
    """The functions as the `.aimodel` has them, where there is one."""
    generation: int
    """The iOS release whose systems are the oldest that run all of it."""
    shown: Mapping[str, str]
    """Author, license, version and description."""
    seeded: bool = False

    @property
    def function(self) -> Function:
        """The first function."""
        return self.functions[0]

    @property
    def frameworks(self) -> tuple[str, ...]:
        """`coreai` and `coreml`, as far as there are artifacts for them."""
        return tuple(sorted({each.framework for each in self.artifacts}))

    def artifact(self, framework: str) -> Artifact:
        """The file for one framework."""
        return next(each for each in self.artifacts if each.framework == framework)

    @property
    def has_pictures(self) -> bool:
        """Whether some function takes a picture."""
        return any(function.pictures for function in self.functions)

    @property
    def platforms(self) -> tuple[tuple[str, str], ...]:
        """Each system of Apple's with the oldest release that runs it."""
        versions = system_versions(self.generation).items()
        return tuple((system, version if "." in version else f"{version}.0") for system, version in versions)

    @property
    def functions_named(self) -> tuple[str, ...]:
        """The names of the functions where Core ML must be told which; empty where there is one without a name."""
        return tuple(function.name for function in self.functions if function.name)

    @property
    def result(self) -> tuple[Feature, ...]:
        """The outputs, the same of all functions but for their sizes."""
        return self.function.outputs

    @property
    def has_struct(self) -> bool:
        """Whether a method returns several values, or one whose shape is open."""
        return self.task in ("step", "arrays") and (
            len(self.result) != 1 or any(each.is_open for function in self.functions for each in function.outputs)
        )


def task_of(
    functions: Sequence[Function], states: Sequence[Feature], labels: Sequence[str], *, suppressed: bool
) -> Task:
    """What the artifact is for, by what it takes and gives."""
    inputs, outputs = functions[0].inputs, functions[0].outputs
    kinds = [each.kind for each in outputs]
    if states:
        return "step"
    if len(functions) > 1:
        return "arrays"
    if suppressed and {each.name for each in outputs} == set(DETECTED):
        return "detector"
    if sorted(kinds) == ["shares", "text"] or (labels and kinds == ["array"] and outputs[0].count == len(labels)):
        return "classifier"
    if len(outputs) != 1:
        return "arrays"
    given = [each.kind for each in inputs if not each.is_optional]
    output = outputs[0]
    if given == ["picture"] and output.kind == "picture":
        return "segmenter" if output.layout in ("G", "G16") else "filter"
    if given == ["picture"] and _is_class_map(output):
        return "segmenter"
    is_vector = output.kind == "array" and not output.is_open and output.count == max(output.shape, default=0)
    return "embedding" if is_vector and not output.is_whole and "embed" in output.name.lower() else "arrays"


def _is_class_map(output: Feature) -> bool:
    sizes = [size for size in output.shape if size != 1]
    return output.kind == "array" and output.is_whole and not output.is_open and len(sizes) == 2


def functions_of(
    described: Mapping[str, object], functions: Mapping[str, JsonObject], method: str = "predict"
) -> tuple[Function, ...]:
    """The methods for an artifact: one for each of its functions, or one."""
    named = functions or {"": described}
    methods = identifiers(functions, taken=("makeState",)) if functions else [method]
    return tuple(
        Function(
            name=name,
            method=called,
            inputs=features(each["inputs"], taken=_LOCALS),
            outputs=features(each["outputs"]),
        )
        for (name, each), called in zip(named.items(), methods, strict=True)
    )


def names_of(stem: str, task: Task) -> tuple[str, str]:
    """The module's name and the type's, which differ: a type with the name of its module hides the module."""
    module, suffix = module_name(stem), _SUFFIXES.get(task, "Model")
    return module, f"{module}{'Model' if module.endswith(suffix) else suffix}"


def method_of(task: Task) -> str:
    """What the method of an artifact with one function is called."""
    return _METHODS.get(task, "predict")


def require_same(first: Sequence[Function], second: Sequence[Function]) -> None:
    """Raise ConfigurationError where two artifacts cannot stand behind one type."""
    for one, other in zip(first, second, strict=False):
        names = [sorted(each.name for each in function.inputs) for function in (one, other)]
        if names[0] != names[1]:
            raise ConfigurationError(
                f"the two artifacts take different inputs: {', '.join(names[0])}, and {', '.join(names[1])}",
                code="B0229",
                hint="make a package of each",
            )
    names = [sorted(function.name or "main" for function in functions) for functions in (first, second)]
    if names[0] != names[1]:
        raise ConfigurationError(
            f"the two artifacts have different functions: {', '.join(names[0])}, and {', '.join(names[1])}",
            code="B0229",
            hint="make a package of each",
        )


def generation_of_version(version: int) -> int:
    """The iOS release of a specification version of Core ML (`Model.proto`: 4 is iOS 13, 9 is iOS 18)."""
    releases = {4: 13, 5: 14, 6: 15, 7: 16, 8: 17, 9: 18, 10: 26}
    return 13 if version < 4 else releases.get(version, 26)
