"""The types that pass from stage to stage; each stage reads the one before and makes the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from builder.artifacts.headroom import Headroom

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

    from builder.artifacts.costs import Costs
    from builder.artifacts.devices import DeviceMeasurement
    from builder.artifacts.findings import LintFinding
    from builder.spec import BuildSpec


class InStore:
    """Marks bytes that the store keeps as an object of their own: the record has only the object's name.

    `builder.engine.serialize` gives what reads and writes objects, as the context of pydantic's adapter.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        read = {"type": "with-info", "function": lambda name, info: info.context.read(name)}
        write = {"type": "function-plain", "info_arg": True, "function": lambda value, info: info.context.write(value)}
        return {"type": "function-plain", "function": read, "serialization": write}  # a schema of pydantic-core


StoredBytes = Annotated[bytes, InStore()]

MeasuredOutputs = Mapping[str, Mapping[str, Any]]
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
    config: Mapping[str, Any]
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
    origin: Mapping[str, Any]
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


@dataclass(frozen=True, kw_only=True)
class PreparedModel(PreparedFacts):
    """What is captured, and what is known of it; one that the store restored makes its modules when asked."""

    modules: Callable[[], PreparedModules]
    """Makes the modules once, and returns the same ones from then on."""

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

    def run(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the captured program itself on raw inputs; one tensor for each output."""
        import torch

        program = self.program.module() if self.method == "export" else self.program
        with torch.no_grad():
            returned = program(*inputs)
        return tuple(returned) if isinstance(returned, list | tuple) else (returned,)


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


@dataclass(frozen=True, kw_only=True)
class CheckedOutput:
    """What both models gave as one output, in words; where it is a picture, as PNG too."""

    name: str
    reference: str
    artifact: str
    reference_png: StoredBytes | None = None
    artifact_png: StoredBytes | None = None


@dataclass(frozen=True, kw_only=True)
class CheckedPicture:
    """A picture that a check used, and what both models said of it, best class first."""

    input: str
    png: StoredBytes
    """The picture as the app gives it, PNG-encoded."""
    label: str | None
    """The right class, where the data is labelled."""
    reference_top: tuple[tuple[str, float], ...]
    """The original's best classes, each with its probability (or score)."""
    artifact_top: tuple[tuple[str, float], ...]
    """The artifact's; empty for what is not a classifier."""
    engine: str
    outputs: tuple[CheckedOutput, ...] = ()
    """What the tops do not tell: every output that is not a classifier's."""


Verdict = Literal["passed", "failed", "inconclusive", "skipped"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""What a check may end with: the last two have `passed` None, since nothing was proved or it did not run."""


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """The verdict of one check. `passed` is None where it did not run or proves nothing, with `reason`."""

    name: str
    kind: str
    engine: str
    """`coreml` (Apple's), `runtime` (ours) or `none` (structure only)."""
    values: Mapping[str, Any]
    limits: Mapping[str, Mapping[str, float]]
    passed: bool | None
    reason: str | None = None
    samples: int | None = None
    data: Mapping[str, Any] | None = None
    """What was it measured on: the kind of data, how many samples, in words too (`description`), and their digest; the
    array inputs without data (`synthetic`), and how many stress inputs and tries of a search there were besides."""
    pictures: tuple[CheckedPicture, ...] = ()
    """Evidence for the report; not in `build.json`."""
    worst_input: StoredBytes | None = None
    """The input on which artifact and original differ most of all that were tried, as `.npz`; not in `build.json`."""
    failed_on: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By output that missed a limit, the numbers of the samples, those first that differ most."""
    headroom: Headroom | None = None
    """What values the artifact's operators have, by bounds and on the first inputs of this check; in `build.json` by
    itself."""

    @property
    def verdict(self) -> Verdict:
        """The one word for it, everywhere: `inconclusive` where it was measured and proves nothing, or has no limit."""
        if self.passed is None:
            return "inconclusive" if self.values else "skipped"
        return "passed" if self.passed else "failed"


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """The bytes that one weight takes in the sealed artifact."""

    name: str
    bytes: int
    operator: str = ""
    """The type of the operator that computes with it, past those that only decompress it."""
    output: str = ""
    """That operator's output, or the name of a neural network's layer."""
    module: str = ""
    """The path of the PyTorch module that the operator came from, where that is known."""


@dataclass(frozen=True, kw_only=True)
class TriedArtifact:
    """An artifact that was built and measured on the way to a choice."""

    what: str
    bytes: int
    passed: bool
    """Whether all checks passed, and one of them executed the artifact."""
    values: Mapping[str, float]
    """By check and measure (`parity.snr_db`), the worst over its outputs."""


@dataclass(frozen=True, kw_only=True)
class Float32Operator:
    """An operator that computes in float32."""

    name: str
    operator: str
    module: str
    """The path of its PyTorch module, empty where that is not known."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class AutoResult:
    """What `auto` was found to stand for."""

    precision: Mapping[str, Any] | None
    """The section as a recipe says it; None where the recipe decides itself."""
    compression: Mapping[str, Any] | None
    summary: str
    """One line for people."""
    kept: tuple[Float32Operator, ...] = ()
    tried: tuple[TriedArtifact, ...] = ()
    """Everything that was built on the way, in order."""
    notes: tuple[str, ...] = ()
    """What could not be met, measured or used."""


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """What one stage did: its key, whether its result came from the store, and how long it took."""

    name: str
    key: str
    cached: bool
    seconds: float
    result: str
    """One line for people."""


@dataclass(frozen=True, kw_only=True)
class BuildRecord:
    """All that is known about one build; `build.json`, the reports and MLflow are made from it."""

    request: BuildRequest
    variant: str
    """The request's variant, with `seeded` where weights fell back."""
    status: str
    """`built` or `broken`."""
    key: str
    artifact: SealedPackage
    stages: tuple[StageReport, ...]
    checks: tuple[CheckReport, ...]
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]
    functions: Mapping[str, Mapping[str, Any]]
    """Of an artifact with several functions, by name: `inputs`, `outputs` and `states`; those above are the first's."""
    source: Mapping[str, Any]
    substitutions: tuple[SubstitutionEffect, ...]
    lowerings: tuple[UsedLowering, ...]
    compression: tuple[CompressionEffect, ...]
    """All steps, those on the PyTorch model first."""
    conversion: Conversion | None
    """What precedes the steps on the program; None where there are none, or no parity check says on what to measure."""
    skipped_layers: tuple[SkippedLayer, ...]
    op_counts: Mapping[str, int]
    capture: Mapping[str, Any]
    versions: Mapping[str, str]
    git: Mapping[str, Any]
    started: str
    """UTC, ISO 8601."""
    seconds: float
    seeded: bool = False
    """Whether weights fell back to untrained ones."""
    fallback: Mapping[str, Any] | None = None
    """For such weights: how the network looked then, so that a later build notices that it is back."""
    source_bytes: int | None = None
    """The size of the source's parameters and buffers, in bytes."""
    labels: tuple[str, ...] | None = None
    weights: tuple[LayerWeights, ...] = ()
    """The largest first; the report plots them."""
    lint: tuple[LintFinding, ...] = ()
    """What probably keeps the artifact off the Neural Engine, and where numbers can go wrong, the surest first."""
    costs: tuple[Costs, ...] = ()
    """What each function of the artifact costs; empty where that was not counted."""
    devices: tuple[DeviceMeasurement, ...] = ()
    """What devices measured of these very bytes."""
    chosen: AutoResult | None = None
    """What `auto` stands for, where the recipe says it."""
    decided: BuildSpec | None = None
    """The request's spec with that in the place of `auto`."""

    @property
    def headroom(self) -> tuple[Headroom, ...]:
        """The values inside the artifact, by function; empty where no parity check executed it."""
        return tuple(check.headroom for check in self.checks if check.headroom is not None)

    @property
    def spec(self) -> BuildSpec:
        """What was built: the request's spec, with nothing left open."""
        return self.request.spec if self.decided is None else self.decided
