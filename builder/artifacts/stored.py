"""What the store keeps of each stage in plain values; what it hands on besides, such as a module, is made again.

Each type is read and written by `builder.engine.serialize`, strictly: a record of another shape is a miss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from builder.artifacts.checks import CheckReport
from builder.artifacts.costs import Costs
from builder.artifacts.features import Feature, Interface
from builder.artifacts.findings import LintFinding
from builder.artifacts.origin import SourceOrigin
from builder.artifacts.record import LayerWeights
from builder.artifacts.stages import CompressionEffect, MeasuredSteps, Preprocessing, SkippedLayer, UsedLowering


@with_config(ConfigDict(extra="allow"))
class NetworkState(TypedDict):
    """How the way to a server looked: further keys are compared one by one (see `builder.noop`)."""

    answer: str


class Fallback(TypedDict):
    """Why weights are untrained: when they could not be had, and from where (see `builder.store.fallback`)."""

    at: float
    url: str | None
    state: NetworkState


@dataclass(frozen=True, kw_only=True)
class LoadedFacts:
    """What is known of a source."""

    digest: str
    origin: SourceOrigin
    seeded: bool
    preprocessing: Preprocessing | None
    labels: tuple[str, ...] | None
    source_bytes: int
    """The size of parameters and buffers."""
    fallback: Fallback | None


@dataclass(frozen=True, kw_only=True)
class CapturedFacts:
    """How a program was captured."""

    method: str
    frozen: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ConvertedFacts:
    """What a conversion used, and where its operators came from."""

    lowerings: tuple[UsedLowering, ...]
    modules: Mapping[str, str]
    """By output and name of each operator: the path of its PyTorch module."""
    lines: Mapping[str, str]
    """Likewise the line of its code: `net.py:12`."""
    names: Mapping[str, str]
    """By output, how a recipe names the operator, where that is another name."""


@dataclass(frozen=True, kw_only=True)
class CompressedFacts:
    """What the steps on a program changed."""

    effects: tuple[CompressionEffect, ...]
    skipped: tuple[SkippedLayer, ...]


@dataclass(frozen=True, kw_only=True)
class SealedFacts:
    """What the artifact says of itself."""

    format: str
    size_bytes: int
    semantic_digest: str
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    functions: Mapping[str, Interface]
    op_counts: Mapping[str, int]
    weights: tuple[LayerWeights, ...]
    """Without the paths of modules, which the convert stage knows."""
    lint: tuple[LintFinding, ...]
    costs: tuple[Costs, ...]
    """Likewise without modules."""


@dataclass(frozen=True, kw_only=True)
class VerifiedFacts:
    """The verdicts of a build whose checks all passed."""

    checks: tuple[CheckReport, ...]


@dataclass(frozen=True, kw_only=True)
class MeasuredFacts:
    """What conversion and each compression step cost; None where the program could not be executed."""

    steps: MeasuredSteps | None


@dataclass(frozen=True, kw_only=True)
class MethodFacts:
    """Which method of capture did both capture and conversion."""

    method: str
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why the methods before it did not."""


class LayerNoise(TypedDict):
    """Weights that are computed with together, and by method their bytes and their noise."""

    weights: list[str]
    costs: dict[str, list[int | float]]


class MeasuredLayers(TypedDict):
    """The layers of a model that can be compressed."""

    layers: list[LayerNoise]


@dataclass(frozen=True, kw_only=True)
class SensitivityFacts:
    """How much noise each layer adds; see `builder.auto.sensitivity`."""

    measured: MeasuredLayers
