"""The types that pass from stage to stage; each stage reads the one before and makes the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image
    from torch.export import ExportedProgram

    from builder.artifacts.origin import SourceOrigin
    from builder.spec import BuildSpec

MOST_VALUES, MOST_ANSWERS = 2**22, 16
"""Outputs of so many values are kept, of so many samples."""

Measure = int | float | str
"""A number, or why numbers prove nothing."""
Measures = Mapping[str, Measure]
"""What was measured of an output, by name."""
MeasuredOutputs = Mapping[str, Measures]
"""By output: its measures, each the worst over samples."""


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """One build, composed and validated: what the configuration room hands to the pipeline."""

    recipe: str
    variant: str
    """`default`, or the overrides that change the artifact, readable as a folder name."""
    spec: BuildSpec
    overrides: tuple[str, ...]
    """The overrides of the command line, as written."""
    config: Mapping[str, object]
    """The composed configuration before validation, as plain values."""
    origins: Mapping[str, str]
    """By dotted key, where its value was written: `recipes/x.yaml:8:3`, or `command line`."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How pictures were prepared for training: `(x/255 - mean) / std` per channel, then cut to size."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize_size: int | None = None
    crop_size: int | None = None
    interpolation: str = "bilinear"
    """How they were scaled, antialiased: `bilinear`, `bicubic`, or another way that data cannot repeat."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A PyTorch module in eval mode, and what its source knows about it."""

    module: torch.nn.Module
    digest: str
    """SHA-256 over the weights (or over the source file)."""
    origin: SourceOrigin
    """What goes into `build.json` under `source`: kind, names, digests."""
    seeded: bool = False
    """Whether weights fell back to untrained ones."""
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] | None = None
    is_finished: bool = False
    """Whether it was taken apart from a finished Core ML file, of which `digest` then is."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One example of all inputs, as the app gives them and as the original model takes them."""

    given: Mapping[str, Image.Image | np.ndarray]
    """By input name: a picture in the app's layout, or an array of the input's dtype."""
    tensors: Mapping[str, torch.Tensor]
    """By input name: levels of 0 to 255 as float32 (N, C, H, W) for pictures, else the array."""
    label: str | int | None = None
    """The right class by name, or by number from 0, where the data is labelled."""


@dataclass(frozen=True, kw_only=True)
class ExampleInputs:
    """Seeded samples, made once from the input spec and used by every later stage; the first is traced."""

    samples: tuple[Sample, ...]
    digest: str
    other_shapes: tuple[Sample, ...] = ()
    """One sample for each further shape that the app may choose, where inputs are flexible."""
    between: tuple[Sample, ...] = ()
    """Samples of shapes between the ends, which show branches on sizes; the model itself may refuse some of them."""


@dataclass(frozen=True, kw_only=True)
class SubstitutionEffect:
    """What one substitution replaced, and what it alone changed on the outputs."""

    name: str
    kind: str
    exact: bool
    replaced: tuple[str, ...]
    max_abs: float
    snr_db: float | None


@dataclass(frozen=True, kw_only=True)
class SkippedLayer:
    """A layer or weight that a compression step left as it was."""

    step: str
    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CompressionEffect:
    """What one compression step changed: layers of the PyTorch model (`prepare`), or of the program (`compress`)."""

    name: str
    kind: str
    stage: str
    changed: tuple[str, ...]
    """Paths of modules, or names of weights and operators."""
    max_abs: float | None = None
    """By how much the step alone changed the outputs (the worst of them); None where that was not measured."""
    snr_db: float | None = None
    alone: MeasuredOutputs = field(default_factory=dict)
    """What the step alone changed: against the model before it."""
    so_far: MeasuredOutputs = field(default_factory=dict)
    """Against the original, before any compression."""
    engine: str = ""
    """What computed the outputs: `pytorch`, or `runtime` (ours) for steps on the program."""
    samples: int | None = None


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What the converted program computes before its compression, executed by our runtime, against the original."""

    outputs: MeasuredOutputs
    samples: int
    """How many of the parity check's; those of the steps are the same."""


@dataclass(frozen=True, kw_only=True)
class MeasuredSteps:
    """What conversion and every compression step on the program cost."""

    conversion: Conversion
    steps: tuple[tuple[MeasuredOutputs, MeasuredOutputs], ...]
    """For each step in order: alone, and so far."""


@dataclass(frozen=True, kw_only=True)
class FlexibleSize:
    """A dimension whose size the app chooses from `min` to `max`; those of one name have one size."""

    name: str
    min: int
    max: int
    enumerated: tuple[int, ...] = ()
    """The sizes of the shapes that the recipe enumerates, in their order; the app chooses one shape, not each size."""


@dataclass(frozen=True, kw_only=True)
class Suppression:
    """What a detector's last stage, non-maximum suppression, does unless the app says otherwise."""

    iou_threshold: float
    confidence_threshold: float
    detections: int
    """How many boxes are kept at most."""


@dataclass(frozen=True, kw_only=True)
class PreparedFacts:
    """What the store keeps of a prepared model: everything but its modules."""

    output_names: tuple[str, ...]
    labels: tuple[str, ...] | None
    substitutions: tuple[SubstitutionEffect, ...] = ()
    compression: tuple[CompressionEffect, ...] = ()
    """The steps on the PyTorch model."""
    skipped: tuple[SkippedLayer, ...] = ()
    """The layers that these left as they were."""
    normalization: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    """By image input: the `scale` and `bias` of each channel, on levels of 0 to 255."""
    states: Mapping[str, str] = field(default_factory=dict)
    """By the state's name: the path of its buffer in the module and in the reference."""
    flexible: tuple[Mapping[int, FlexibleSize], ...] = ()
    """For each input in order: the dimensions whose size the app chooses."""
    integer_outputs: tuple[str, ...] = ()
    """The outputs that are integers, by name."""
    preprocessing: Preprocessing | None = None
    """How the weights say that pictures are prepared."""
    suppression: Suppression | None = None
    """The stage behind the program, of a detector that has one; `labels` are its classes."""
    file: str | None = None
    """The digest of a finished Core ML file, which decides in which form compressed weights are stored."""


@dataclass(frozen=True, kw_only=True)
class PreparedModules:
    """The modules of a prepared model, in eval mode, with normalisation and softmax as modules."""

    module: torch.nn.Module
    """What is captured, substituted: takes the raw inputs in the order of the spec and returns a tuple with one tensor
    for each output."""
    reference: torch.nn.Module
    """The same without substitutions and compression: the original."""
    uncompressed: torch.nn.Module
    """`module` before its compression (the same where there is none): what the artifact is compared with."""


class Answers:
    """What modules gave for samples, so that nobody computes it again; few, and small ones."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], tuple[torch.Tensor, ...]] = {}

    def of(self, module: object, sample: str, run: Callable[[], tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
        """What `module`, which lives as long as this, gave for the sample with that digest, or `run()`, kept."""
        key = (id(module), sample)
        if key in self._known:
            return self._known[key]
        outputs = run()
        if sum(value.numel() for value in outputs) <= MOST_VALUES and len(self._known) < MOST_ANSWERS:
            self._known[key] = outputs
        return outputs


@dataclass(frozen=True, kw_only=True)
class PreparedModel(PreparedFacts):
    """What is captured, and what is known of it; one that the store restored makes its modules when asked."""

    modules: Callable[[], PreparedModules]
    """Makes the modules once, and returns the same ones from then on."""
    answers: Answers = field(default_factory=lambda: Answers(), compare=False, repr=False)
    """What the modules gave for samples that stages and checks have in common."""

    @property
    def module(self) -> torch.nn.Module:
        """The module that is captured."""
        return self.modules().module

    @property
    def reference(self) -> torch.nn.Module:
        """The original."""
        return self.modules().reference

    @property
    def uncompressed(self) -> torch.nn.Module:
        """The module before its compression."""
        return self.modules().uncompressed


@dataclass(frozen=True, kw_only=True)
class CapturedProgram:
    """The model as a graph that coremltools converts."""

    program: Any
    """`torch.jit.ScriptModule`, `torch.export.ExportedProgram`, an ONNX graph, or the module of a Core ML file."""
    method: str
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why the methods that were tried first did not work."""
    frozen: tuple[str, ...] = ()
    """Where a trace recorded what the first example holds as a constant, such as a branch: its kind and place."""
    answers: Answers = field(default_factory=lambda: Answers(), compare=False, repr=False)
    """What the program gave for samples that stages and checks have in common."""

    def run(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the captured program itself on raw inputs; one tensor for each output."""
        import torch

        with torch.no_grad():  # `optimized_execution(False)` would leave calls in the graph that is converted
            returned = self._module(*inputs)
        return tuple(returned) if isinstance(returned, list | tuple) else (returned,)

    @cached_property
    def _module(self) -> Any:
        """What computes the program, on the weights and states that it has; torch takes 0.1 s to make it."""
        return unguarded(self.program) if self.method == "export" else self.program


def unguarded(program: ExportedProgram) -> Any:
    """The module of an exported program, without the conditions that torch checks first: no artifact has them."""
    module: Any = program.module()
    module.validate_inputs = False
    if hasattr(module, "_guards_fn"):
        module._guards_fn.forward = _unguarded
    return module


def _unguarded(*inputs: object) -> None:
    """No condition on inputs."""


@dataclass(frozen=True, kw_only=True)
class OriginalProgram:
    """What the artifact, or one function of it, is compared with, and the part of the recipe that checks read."""

    spec: BuildSpec
    prepared: PreparedModel
    captured: CapturedProgram


@dataclass(frozen=True, kw_only=True)
class UsedLowering:
    """An operator that a conversion left to a lowering of ours."""

    operator: str
    """As coremltools calls it."""
    why: str
    """That coremltools has none, or what its own lacks or gets wrong, with the issue."""
    times: int


@dataclass(frozen=True, kw_only=True)
class ConvertedModel:
    """A model of coremltools in memory."""

    model: Any
    """`coremltools.models.MLModel`."""
    lowerings: tuple[UsedLowering, ...] = ()
    summary: str = ""
    """One line for people."""
    modules: Mapping[str, str] = field(default_factory=dict)
    """By output and name of each operator: the path of the PyTorch module it came from, where known."""
    lines: Mapping[str, str] = field(default_factory=dict)
    """Likewise the line of the model's own code: `net.py:12`."""
    names: Mapping[str, str] = field(default_factory=dict)
    """By output of each operator, how `precision.fp32_names` calls it, where that is another name."""


@dataclass(frozen=True, kw_only=True)
class CompressedModel:
    """A converted model after all compression steps."""

    model: Any
    """`coremltools.models.MLModel`."""
    effects: tuple[CompressionEffect, ...] = ()
    """The steps on the program."""
    skipped: tuple[SkippedLayer, ...] = ()
    summary: str = ""
    """One line for people."""
    between: tuple[Any, ...] = ()
    """The packages after each step but the last, as `KeptPackage`; the store does not keep them."""


@dataclass(frozen=True, kw_only=True)
class SealedPackage:
    """The artifact on disk, canonical to the byte."""

    path: Path
    format: str
    digest: str
    """`sha256:` over the sorted manifest of its files."""
    size_bytes: int
    semantic_digest: str
    """`sha256:` over the model's meaning, independent of the protobuf version."""
