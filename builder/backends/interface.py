"""What every backend does: the questions that stages, checks and reports put to a format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from builder.backends.description import ArtifactDescription

if TYPE_CHECKING:
    from builder.artifacts.findings import LintFinding
    from builder.artifacts.stages import (
        CapturedProgram,
        CompressedModel,
        ConvertedModel,
        ExampleInputs,
        PreparedModel,
        Preprocessing,
        Sample,
        SealedPackage,
        Suppression,
    )
    from builder.progress import Progress
    from builder.spec import BuildSpec
    from builder.spec.inputs import ImageInput, TensorInput
    from builder.store.objects import Objects


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One of Apple's ways to execute an artifact on this machine."""

    name: str
    open: Callable[[dict[str, Any]], Callable[[Mapping[str, Any]], Mapping[str, Any]]]
    """From where states are kept by name, those of functions before among them, to what predicts for one sample."""
    samples: int | None = None
    """How many samples it is for at most, where it is slow: it confirms what our runtime measures on all."""


class Backend(Protocol):
    """One format's way from a captured program to an artifact, and back to what the artifact says."""

    name: str
    """What people call it: `Core ML`."""
    notice: str | None
    """What every report of its artifacts must say."""
    runs_on_macs: bool
    """Whether coremltools' MLModel executes its artifacts by Apple's framework on a Mac."""
    packages: tuple[str, ...]
    """What it needs beyond the tools of every build: their versions are in the record and in the lock."""

    def check_installed(self) -> None:
        """Raise UnfitEnvironmentError, with the command, where what it needs is not installed."""

    def refuse(self, captured: CapturedProgram) -> None:
        """Raise ConversionError for what surely does not convert, before the long work."""

    def convert(
        self, prepared: PreparedModel, captured: CapturedProgram, examples: ExampleInputs, spec: BuildSpec
    ) -> ConvertedModel:
        """The program in its own form. Raises ConversionError where that cannot be."""

    def compress(
        self, converted: ConvertedModel, spec: BuildSpec, progress: Progress, *, published: Preprocessing | None
    ) -> CompressedModel:
        """The recipe's steps on the program, in their order."""

    def seal(
        self,
        compressed: Mapping[str, CompressedModel],
        spec: BuildSpec,
        destination: Path,
        *,
        seeded: bool,
        behind: tuple[Suppression, tuple[str, ...]] | None,
    ) -> SealedPackage:
        """The artifact on disk, the same to the byte wherever it is made; `compressed` is by function."""

    def pack_model(self, model: object, objects: Objects) -> str:
        """Put a converted or compressed model into the store; the digest of its manifest."""

    def unpack_model(self, manifest: str, objects: Objects) -> Any:
        """Take it out again."""

    def program_file(self, model: object, folder: Path) -> Path:
        """Where a converted or compressed model lies for the runtime; it may be written to `folder` for that."""

    def weight_users(self, model: object, artifact: Path) -> Mapping[str, frozenset[str]]:
        """By name of each weight of an uncompressed model, the values computed with it, as `artifact` calls them.

        `model` is the converted one, and `artifact` what the seal stage made of it.
        """

    def describe(self, path: Path) -> ArtifactDescription:
        """What an artifact says of itself; nothing is executed."""

    def engines(self, path: Path, function: str) -> Sequence[Engine]:
        """Apple's own engines for an artifact on this machine, beside our runtime, which executes all formats."""

    def lint(self, path: Path) -> Sequence[LintFinding] | None:
        """What probably keeps an artifact off the Neural Engine; None where the rules of `analysis` read it."""

    def why_refused(self, path: Path) -> str | None:
        """Why Apple's own loader would not open an artifact; None where it would."""

    def feeds(self, sample: Sample, spec: BuildSpec) -> dict[str, Any]:
        """A sample as the artifact takes it."""

    def wanted_input(self, given: ImageInput | TensorInput) -> dict[str, Any]:
        """What the artifact must declare of an input."""

    def wanted_output(self, index: int, name: str, spec: BuildSpec) -> dict[str, Any]:
        """What it must declare of an output."""

    def label_outputs(self, spec: BuildSpec) -> tuple[str, ...]:
        """The outputs of a classifier that are not tensor of the model's, such as the predicted label."""
