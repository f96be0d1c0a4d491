"""BuildSpec: all that a recipe decides, frozen and validated to the leaves (imports neither torch nor coremltools)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from builder.spec.base import FeatureName, Part, Seed
from builder.spec.check_kinds import Check
from builder.spec.checks import AccuracyCheck, ParityCheck
from builder.spec.compression import AutoCompression, ProgramCompression
from builder.spec.compression_kinds import Compression, compression_kind
from builder.spec.data import Data
from builder.spec.detection import Detection
from builder.spec.function import Functions
from builder.spec.inputs import ConstantInput, ImageInput, Inputs, State, TensorInput
from builder.spec.lint import Lint
from builder.spec.module_compression import ModuleCompression
from builder.spec.outputs import Classifier, Metadata, Outputs
from builder.spec.precision import AutoPrecision, Precision
from builder.spec.source_kinds import Source
from builder.spec.substitutions import Substitution
from builder.spec.target import DEFAULT_FORMAT, FORMATS, Format, FormatKind, Target, target_of_format
from builder.spec.tracking import Tracking

SCHEMA_VERSION = 1
"""The version of the recipe format; a recipe that says another is refused."""


def _kind_from_name(entries: object) -> Any:
    """Let an entry of a named mapping leave out `kind` when its name says it already."""
    if not isinstance(entries, Mapping):
        return entries
    return {
        name: {"kind": name, **entry} if isinstance(entry, Mapping) else {"kind": name} if entry is None else entry
        for name, entry in entries.items()
    }


class CaptureMethod(Part):
    """How the PyTorch program is captured."""

    method: Literal["auto", "trace", "script", "export", "onnx"] = "auto"
    """`auto` takes the first of trace, export and script that works, and keeps the reasons why others failed.

    `script` keeps control flow that tracing would freeze; `onnx` goes round by torch.onnx, where the others refuse.
    """


class BuildSpec(Part):
    """One build, fully decided: what a recipe composes to."""

    schema_version: Annotated[int, Field(alias="schema")] = SCHEMA_VERSION
    source: Source
    input: Inputs
    state: dict[FeatureName, State] = {}
    """What the model keeps between predictions, by the name that the app uses."""
    functions: Functions = {}
    """Functions of one artifact that share its weights and states, such as `prefill` and `decode`. Needs iOS 18."""
    output: Outputs = {}
    """Names for what the model returns, in order; `output` or `output_0`, … unless given."""
    classifier: Classifier | None = None
    detection: Detection | None = None
    """Makes a detector of the model: boxes decoded in the program, non-maximum suppression behind it."""
    substitutions: Annotated[dict[str, Substitution], BeforeValidator(_kind_from_name)] = {}
    capture: CaptureMethod = CaptureMethod()
    precision: Precision
    compression: Annotated[dict[str, Compression], BeforeValidator(_kind_from_name)] = {}
    target: Target
    format: Format = DEFAULT_FORMAT
    data: Annotated[dict[str, Data], BeforeValidator(_kind_from_name)] = {}
    """Data by names of your own, to which checks and calibration refer."""
    checks: Annotated[dict[str, Check], BeforeValidator(_kind_from_name)] = {}
    metadata: Metadata = Metadata()
    lint: Lint = Lint()
    tracking: Tracking
    seed: Seed = 0
    """The seed of the example inputs and of everything else that is drawn."""

    @property
    def system(self) -> Target:
        """The oldest system that the artifact runs on: `target`, or the first with Core AI where the format is that."""
        return target_of_format(self.target, self.format)

    @property
    def format_kind(self) -> FormatKind:
        """What settings depend on of the format."""
        return FORMATS[self.format]

    @property
    def artifact_inputs(self) -> dict[str, ImageInput | TensorInput]:
        """What the app gives: all inputs but constants, which are baked in."""
        return {name: given for name, given in self.input.items() if not isinstance(given, ConstantInput)}

    @property
    def module_compression(self) -> dict[str, ModuleCompression]:
        """The compression steps that change the PyTorch model before it is captured, in their order."""
        steps: dict[str, Any] = self.compression
        return {name: step for name, step in steps.items() if compression_kind(step).changes_module}

    @property
    def program_compression(self) -> dict[str, ProgramCompression]:
        """The compression steps that change the converted program, in their order."""
        steps: dict[str, Any] = self.compression
        return {name: step for name, step in steps.items() if compression_kind(step).changes_program}

    @property
    def measured_checks(self) -> dict[str, Check]:
        """The first parity check and the first of accuracy, by name: compression steps are measured on their samples.

        Empty where there is no parity check.
        """
        parity, accuracy = (
            [(name, check) for name, check in self.checks.items() if isinstance(check, kind)][:1]
            for kind in (ParityCheck, AccuracyCheck)
        )
        return dict([*parity, *accuracy]) if parity else {}

    @property
    def automatic_compression(self) -> AutoCompression | None:
        """The step that leaves the compression open, if there is one."""
        return next((step for step in self.compression.values() if isinstance(step, AutoCompression)), None)

    @property
    def is_open(self) -> bool:
        """Whether the choose stage has something to decide: what says `auto`."""
        return isinstance(self.precision, AutoPrecision) or self.automatic_compression is not None
