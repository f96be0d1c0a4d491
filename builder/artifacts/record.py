"""What is known of a build once it is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from builder.artifacts.checks import CheckReport
from builder.artifacts.headroom import Headroom
from builder.artifacts.stages import (
    BuildRequest,
    CompressionEffect,
    Conversion,
    SealedPackage,
    SkippedLayer,
    SubstitutionEffect,
    UsedLowering,
)

if TYPE_CHECKING:
    from builder.artifacts.costs import Costs
    from builder.artifacts.devices import DeviceMeasurement
    from builder.artifacts.features import Feature, Interface
    from builder.artifacts.findings import LintFinding
    from builder.artifacts.origin import SourceOrigin
    from builder.artifacts.stored import Fallback
    from builder.spec import BuildSpec
    from builder.util.git import GitState


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

    precision: Mapping[str, object] | None
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


class CaptureRecord(TypedDict):
    """Which method captured the program, what it fixed, and why the methods before it did not do."""

    method: str
    frozen: tuple[str, ...]
    failures: Mapping[str, str]


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
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    functions: Mapping[str, Interface]
    """Of an artifact with several functions, by name: `inputs`, `outputs` and `states`; those above are the first's."""
    source: SourceOrigin
    substitutions: tuple[SubstitutionEffect, ...]
    lowerings: tuple[UsedLowering, ...]
    compression: tuple[CompressionEffect, ...]
    """All steps, those on the PyTorch model first."""
    conversion: Conversion | None
    """What precedes the steps on the program; None where there are none, or no parity check says on what to measure."""
    skipped_layers: tuple[SkippedLayer, ...]
    op_counts: Mapping[str, int]
    capture: CaptureRecord
    versions: Mapping[str, str]
    git: GitState
    started: str
    """UTC, ISO 8601."""
    seconds: float
    seeded: bool = False
    """Whether weights fell back to untrained ones."""
    fallback: Fallback | None = None
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
