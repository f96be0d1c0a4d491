"""The exported program of a source that torch.export cannot read, by way of its Core ML program.

ONNX graphs and TorchScript become an ML program in float32, and `runtime.export` reads that back as a program of
torch. The checks compare what comes of it with the source itself.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from builder.artifacts.stages import CapturedProgram, ExampleInputs, PreparedModel, UsedLowering
from builder.errors import ConversionError
from builder.model.capture.composites import run_decompositions
from builder.spec import BuildSpec
from builder.spec.precision import Fp32
from builder.spec.target import Target
from coreml_runtime.errors import RuntimeFailure
from coreml_runtime.export import Exported, export

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_TARGET = "ios18"
"""The newest opset that the runtime exports whole."""


@dataclass(frozen=True, kw_only=True)
class SourceProgram:
    """A program, with its inputs and outputs in order by the recipe's names."""

    program: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lowerings: tuple[UsedLowering, ...] = ()


def source_program(
    prepared: PreparedModel, captured: CapturedProgram, examples: ExampleInputs, spec: BuildSpec
) -> SourceProgram:
    """The program to convert. Raises ConversionError where the way through Core ML leads to none."""
    if captured.method == "export":
        return SourceProgram(
            program=captured.program, inputs=tuple(spec.artifact_inputs), outputs=tuple(prepared.output_names)
        )
    if prepared.states:
        raise ConversionError(
            f"states reach Core AI by torch.export alone, and this was captured by {captured.method}",
            code="B0402",
            key="capture.method",
        )
    with tempfile.TemporaryDirectory(prefix="builder-coreai-") as folder:
        file, lowerings = _as_core_ml(prepared, captured, examples, spec, Path(folder))
        try:
            exported = export(file, precision="fast")
        except RuntimeFailure as error:
            raise ConversionError(
                f"the program does not become one for Core AI: {error}",
                code="B0401",
                hint="take the PyTorch model that it was made of",
                key="source",
            ) from error
        _check_whole(exported)
        return SourceProgram(
            program=run_decompositions(exported.program, {}),
            inputs=tuple(each.name for each in exported.inputs),
            outputs=_outputs(exported, prepared),
            lowerings=lowerings,
        )


def _as_core_ml(
    prepared: PreparedModel, captured: CapturedProgram, examples: ExampleInputs, spec: BuildSpec, folder: Path
) -> tuple[Path, tuple[UsedLowering, ...]]:
    """An ML program in float32 with plain arrays as outputs: types and labels are the asset's to declare."""
    from builder.backends.coreml.backend import CoreML

    backend = CoreML()
    converted = backend.convert(prepared, captured, examples, on_the_way(spec))
    file = folder / "program.mlpackage"
    shutil.copytree(backend.program_file(converted.model, folder), file)  # the model's own goes with it
    return file, converted.lowerings


def on_the_way(spec: BuildSpec) -> BuildSpec:
    """The recipe of the ML program by way of which a source becomes a program for Core AI."""
    changes: Mapping[str, object] = {
        "format": "mlpackage",
        "target": Target(name=_TARGET),
        "system": Target(name=_TARGET),
        "precision": Fp32(kind="fp32"),
        "classifier": None,
        "output": dict.fromkeys(spec.output),
    }
    return cast(BuildSpec, _Changed(spec, changes))


class _Changed:
    """A view of a recipe with some other settings, which reads no more of it than the stage may."""

    def __init__(self, spec: BuildSpec, changes: Mapping[str, object]) -> None:
        self._spec = spec
        self._changes = changes

    def __getattr__(self, name: str) -> Any:
        return self._changes[name] if name in self._changes else getattr(self._spec, name)


def _check_whole(exported: Exported) -> None:
    """Raise ConversionError for parts that stay behind, and for sizes that only the file leaves open."""
    if exported.left:
        raise ConversionError(
            f"Core AI has no place for a part of the file: {'; '.join(exported.left)}", code="B0401", key="source"
        )
    if exported.fixed:
        raise ConversionError(
            f"the sizes of {', '.join(exported.fixed)} do not stay open on the way to Core AI",
            code="B0401",
            hint="give the inputs sizes that are fixed",
            key="input",
        )


def _outputs(exported: Exported, prepared: PreparedModel) -> tuple[str, ...]:
    """The recipe's names in the program's order; an array behind a dictionary of probabilities has another name."""
    wanted = tuple(prepared.output_names)
    if len(wanted) != len(exported.outputs):
        raise ConversionError(
            f"the program gives {', '.join(exported.outputs)}, and the recipe has {', '.join(wanted)}",
            code="B0401",
            key="output",
        )
    unnamed = iter(name for name in wanted if name not in exported.outputs)
    return tuple(name if name in wanted else next(unnamed) for name in exported.outputs)
