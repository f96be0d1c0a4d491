"""For which Apple system the artifact is built: option name, coremltools' name, and the generation that decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator

from builder.spec.base import Part

Format = Literal["mlpackage", "mlmodel", "aimodel"]
"""`mlpackage` holds an ML program (iOS 15 on), `mlmodel` a neural network (up to iOS 14), `aimodel` a Core AI program
(iOS 27 on; experimental until coreai-core is 1.0)."""

DEFAULT_FORMAT: Format = "mlpackage"


@dataclass(frozen=True, kw_only=True)
class FormatKind:
    """What settings of a recipe depend on, of one format; all else is its backend's to answer."""

    backend: str
    """The package in `builder/backends/` that makes it."""
    capture_methods: tuple[str, ...] | None = None
    """The methods of capture that `auto` tries; None for all that the source allows."""
    first_generation: int = 0
    """The iOS release that it begins with, below which a target stands for that one."""
    is_of_coremltools: bool = True
    """Whether coremltools has a name for its targets."""
    is_program: bool = True
    """Whether it holds a program: states, several functions, integers and a precision for each operator need one."""
    is_analysed: bool = False
    """Whether intervals are known of its operators' values, and so which of them half precision cannot hold."""


FORMATS: Mapping[str, FormatKind] = {
    "mlpackage": FormatKind(backend="coreml", is_analysed=True),
    "mlmodel": FormatKind(backend="coreml", is_program=False),
    # Core AI knows torch.export alone; what is traced becomes an exported program by way of Core ML
    "aimodel": FormatKind(
        backend="coreai", capture_methods=("export", "trace", "script"), first_generation=27, is_of_coremltools=False
    ),
}

BACKENDS: Mapping[str, str] = {name: kind.backend for name, kind in FORMATS.items()}
"""By format, the package in `builder/backends/` that makes it."""

GENERATIONS = (13, 14, 15, 16, 17, 18, 26)
"""The iOS releases that added something to Core ML's format; every other system is counted by its iOS."""

CORE_AI = 27
"""The first iOS release with Core AI; coremltools knows no release after 26."""

_SYSTEMS: dict[str, dict[str, int]] = {
    "iOS": {str(g): g for g in (*GENERATIONS, CORE_AI)},
    "macOS": {"10_15": 13, "11": 14, "12": 15, "13": 16, "14": 17, "15": 18, "26": 26, "27": 27},
    "watchOS": {"6": 13, "7": 14, "8": 15, "9": 16, "10": 17, "11": 18, "26": 26, "27": 27},
    "tvOS": {str(g): g for g in (*GENERATIONS, CORE_AI)},
    "visionOS": {"1": 17, "2": 18, "26": 26, "27": 27},
}

_TARGETS: dict[str, tuple[str, str, int]] = {
    f"{system.lower()}{version}": (system, version, generation)
    for system, versions in _SYSTEMS.items()
    for version, generation in versions.items()
}

TARGET_NAMES = tuple(_TARGETS)
"""Every target that a recipe may name, such as `ios15` or `macos12`."""


def _known(name: str) -> str:
    if name not in _TARGETS:
        raise ValueError(f"must be one of {', '.join(TARGET_NAMES)}")
    return name


class Target(Part):
    """The oldest system that the artifact must run on."""

    name: Annotated[str, AfterValidator(_known)]

    @property
    def generation(self) -> int:
        """The iOS release with the same model format: 13 to 18, 26, or 27."""
        return _TARGETS[self.name][2]

    @property
    def coremltools_name(self) -> str:
        """The member of `coremltools.target`; visionOS, which coremltools lacks, maps to its iOS."""
        system, version, generation = _TARGETS[self.name]
        return f"iOS{generation}" if system == "visionOS" else f"{system}{version}"


def system_versions(generation: int) -> dict[str, str]:
    """Each system of Apple's with its first release that has the model format of iOS `generation`: `macOS: 10.15`."""
    return {
        system: next(version for version, each in versions.items() if each >= generation).replace("_", ".")
        for system, versions in _SYSTEMS.items()
    }


def same_system_name(target: Target, generation: int) -> str:
    """The name of `target`'s system in the release with the model format of iOS `generation`."""
    system = _TARGETS[target.name][0]
    return next(n for n, (s, _, g) in _TARGETS.items() if s == system and g >= generation)


def target_of_format(target: Target, artifact_format: Format) -> Target:
    """The oldest system that runs an artifact of this format where `target` was asked for: Core AI begins with 27."""
    first = FORMATS[artifact_format].first_generation
    return Target(name=same_system_name(target, first)) if target.generation < first else target


def last_neural_network_target(target: Target) -> str:
    """The newest target of `target`'s system that still takes an `.mlmodel` of a neural network."""
    system = _TARGETS[target.name][0]
    return next((n for n, (s, _, g) in _TARGETS.items() if s == system and g == 14), "ios14")
