"""Core AI as a backend: each answer is in a file of its own, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.backends.coreai.installed import PINS
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
    from builder.backends.interface import Engine
    from builder.progress import Progress
    from builder.spec import BuildSpec
    from builder.spec.inputs import ImageInput, TensorInput
    from builder.store.objects import Objects


class CoreAI:
    """`.aimodel`, by coreai-torch in a child process."""

    name = "Core AI"
    runs_on_macs = False
    notice: str | None = (
        "Core AI (.aimodel) is experimental here until Apple's coreai-core is 1.0: its bindings change with every beta."
    )
    packages: tuple[str, ...] = tuple(PINS)

    def check_installed(self) -> None:
        """The extra `coreai`, in the pinned versions."""
        from builder.backends.coreai.installed import check_installed

        check_installed()

    def refuse(self, captured: CapturedProgram) -> None:
        """Nothing here: the conversion names all unknown operators before its long work."""

    def convert(
        self,
        prepared: PreparedModel,
        captured: CapturedProgram,
        examples: ExampleInputs,
        spec: BuildSpec,
    ) -> ConvertedModel:
        """By coreai-torch, with rewrites and decompositions of ours."""
        from builder.backends.coreai.convert import convert

        self.check_installed()
        return convert(prepared, captured, examples, spec)

    def compress(
        self,
        converted: ConvertedModel,
        spec: BuildSpec,
        progress: Progress,
        *,
        published: Preprocessing | None,
    ) -> CompressedModel:
        """By our own quantiser and k-means, as Core AI's storage; activations on ranges that our runtime measures."""
        from builder.backends.coreai.compress import compress

        return compress(converted, spec, progress, published=published)

    def seal(
        self,
        compressed: Mapping[str, CompressedModel],
        spec: BuildSpec,
        destination: Path,
        *,
        seeded: bool,
        behind: tuple[Suppression, tuple[str, ...]] | None,
    ) -> SealedPackage:
        """Names by place, metadata sorted and without a date."""
        from builder.backends.coreai.seal import seal

        assert behind is None, "a stage of non-maximum suppression is refused before anything is loaded"
        return seal(compressed, spec, destination, seeded=seeded)

    def pack_model(self, model: Any, objects: Objects) -> str:
        """The program, and what is known of its inputs."""
        from builder.backends.coreai.archive import pack_model

        return pack_model(model, objects)

    def unpack_model(self, manifest: str, objects: Objects) -> Any:
        """An asset on disk."""
        from builder.backends.coreai.archive import unpack_model

        return unpack_model(manifest, objects)

    def program_file(self, model: Any, folder: Path) -> Path:  # noqa: ARG002 - it lies on disk
        """The asset."""
        path: Path = model.path
        return path

    def weight_users(self, model: object, artifact: Path) -> Mapping[str, frozenset[str]]:  # noqa: ARG002 - it has no names
        """By our own reader of the artifact."""
        from builder.backends.coreai.modules import weight_users

        return weight_users(artifact)

    def describe(self, path: Path) -> ArtifactDescription:
        """By our own reader, which needs none of Apple's packages."""
        from builder.backends.coreai.description import describe_artifact

        return describe_artifact(path)

    def engines(self, path: Path, function: str) -> Sequence[Engine]:
        """Apple's interpreter where its packages are, on a few samples: it is slow."""
        from builder.backends.coreai.engine import interpreter
        from builder.backends.coreai.installed import is_installed

        return (interpreter(path, function),) if is_installed() else ()

    def lint(self, path: Path) -> tuple[LintFinding, ...] | None:
        """Rules from Core AI's own trackers."""
        from builder.backends.coreai.lint import lint

        return lint(path)

    def why_refused(self, path: Path) -> str | None:
        """Whether its digest is that of its program."""
        from builder.backends.coreai.describe import check_whole
        from builder.errors import SourceError

        try:
            check_whole(path)
        except SourceError as error:
            return error.message
        return None

    def feeds(self, sample: Sample, spec: BuildSpec) -> dict[str, Any]:
        """Pictures as levels (1, C, H, W), channels in the model's order."""
        from builder.backends.coreai.feeds import feeds

        return feeds(sample, spec)

    def wanted_input(self, given: ImageInput | TensorInput) -> dict[str, Any]:
        """An array."""
        from builder.backends.coreai.declared import wanted_input

        return wanted_input(given)

    def wanted_output(self, index: int, name: str, spec: BuildSpec) -> dict[str, Any]:
        """An array."""
        from builder.backends.coreai.declared import wanted_output

        return wanted_output(index, name, spec)

    def label_outputs(self, spec: BuildSpec) -> tuple[str, ...]:  # noqa: ARG002 - as all backends
        """None: labels are in the metadata."""
        return ()
