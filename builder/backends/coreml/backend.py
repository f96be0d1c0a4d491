"""Core ML as a backend: each answer is in a file of its own, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.backends.description import ArtifactDescription

if TYPE_CHECKING:
    from coremltools.models import MLModel

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


class CoreML:
    """`.mlpackage` and `.mlmodel`, by coremltools."""

    name = "Core ML"
    runs_on_macs = True
    notice: str | None = None
    packages: tuple[str, ...] = ()

    def check_installed(self) -> None:
        """Nothing to check: coremltools comes with builder."""

    def refuse(self, captured: CapturedProgram) -> None:
        """Refuse operators without a lowering, and writes that would be lost."""
        from builder.backends.coreml.screening import refuse_what_cannot_convert

        refuse_what_cannot_convert(captured)

    def convert(
        self, prepared: PreparedModel, captured: CapturedProgram, examples: ExampleInputs, spec: BuildSpec
    ) -> ConvertedModel:
        """By coremltools and lowerings of ours."""
        from builder.backends.coreml.convert import convert

        return convert(prepared, captured, examples, spec)

    def compress(
        self, converted: ConvertedModel, spec: BuildSpec, progress: Progress, *, published: Preprocessing | None
    ) -> CompressedModel:
        """By coremltools.optimize, with k-means and ranges of ours."""
        from builder.backends.coreml.compress import compress

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
        """Without dates and tool builds, serialised deterministically."""
        from builder.backends.coreml.seal import seal

        return seal(compressed, spec, destination, seeded=seeded, behind=behind)

    def pack_model(self, model: MLModel, objects: Objects) -> str:
        """Specification and weights."""
        from builder.backends.coreml.archive import pack_model

        return pack_model(model, objects)

    def unpack_model(self, manifest: str, objects: Objects) -> MLModel:
        """A model of coremltools."""
        from builder.backends.coreml.archive import unpack_model

        return unpack_model(manifest, objects)

    def program_file(self, model: MLModel, folder: Path) -> Path:
        """The package of an ML program; a neural network is written to `folder`."""
        if model.package_path is not None:
            return Path(model.package_path)
        folder.mkdir(exist_ok=True)
        path = folder / "model.mlmodel"
        path.write_bytes(model.get_spec().SerializeToString())
        return path

    def weight_users(self, model: object, artifact: Path) -> Mapping[str, frozenset[str]]:  # noqa: ARG002 - names are the same
        """By the program that coremltools holds in memory, as compression gets it."""
        from builder.backends.coreml.compression.weights import operators_of, program_of

        return operators_of(program_of(model))

    def describe(self, path: Path) -> ArtifactDescription:
        """From its protobuf."""
        from builder.backends.coreml.description import describe_artifact

        return describe_artifact(path)

    def engines(self, path: Path, function: str) -> Sequence[Engine]:  # noqa: ARG002 - Apple's needs more than a path
        """None beside those that `checks` opens on a Mac."""
        return ()

    def lint(self, path: Path) -> Sequence[LintFinding] | None:  # noqa: ARG002
        """By the rules of `analysis`."""
        return None

    def why_refused(self, path: Path) -> str | None:
        """What Apple's loader of packages says; a single file has none."""
        from builder.backends.coreml.package_loader import why_refused

        return why_refused(path) if path.is_dir() else None

    def feeds(self, sample: Sample, spec: BuildSpec) -> dict[str, Any]:  # noqa: ARG002 - Core ML takes pictures
        """As the app gives it."""
        return dict(sample.given)

    def wanted_input(self, given: ImageInput | TensorInput) -> dict[str, Any]:
        """An image with its layout, or an array."""
        from builder.backends.coreml.declared import wanted_input

        return wanted_input(given)

    def wanted_output(self, index: int, name: str, spec: BuildSpec) -> dict[str, Any]:
        """A dictionary of probabilities, an image, or an array."""
        from builder.backends.coreml.declared import wanted_output

        return wanted_output(index, name, spec)

    def label_outputs(self, spec: BuildSpec) -> tuple[str, ...]:
        """The predicted label."""
        return () if spec.classifier is None else (spec.classifier.predicted_feature_name,)
