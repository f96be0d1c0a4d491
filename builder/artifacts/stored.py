"""What the store keeps of each stage in plain values; what it hands on besides, such as a module, is made again.

Each type is read and written by `builder.engine.serialize`, strictly: a record of another shape is a miss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from builder.artifacts.checks import CheckReport
from builder.artifacts.costs import Costs
from builder.artifacts.findings import LintFinding
from builder.artifacts.record import LayerWeights
from builder.artifacts.stages import CompressionEffect, MeasuredSteps, Preprocessing, SkippedLayer, UsedLowering


class NetworkState(TypedDict):
    """How the way to a server looked: further keys are compared one by one (see `builder.noop`)."""

    __pydantic_config__ = {"extra": "allow"}  # type: ignore[misc]  # noqa: RUF012 - read by pydantic, not a key

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
    origin: Mapping[str, Any]
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


@dataclass(frozen=True, kw_only=True)
class CompressedFacts:
    """What the steps on a program changed."""

    effects: tuple[CompressionEffect, ...]
    skipped: tuple[SkippedLayer, ...]


class TensorFeature(TypedDict):
    """An input or output that is an array; further keys say what is optional and flexible."""

    __pydantic_config__ = {"extra": "allow"}  # type: ignore[misc]  # noqa: RUF012 - read by pydantic, not a key

    name: str
    kind: Literal["tensor"]
    shape: list[int]
    dtype: str
    optional: NotRequired[bool]
    default_value: NotRequired[float]
    ranges: NotRequired[list[list[int]]]
    enumerated_shapes: NotRequired[list[list[int]]]


class ImageFeature(TypedDict):
    """An input or output that is a picture."""

    __pydantic_config__ = {"extra": "allow"}  # type: ignore[misc]  # noqa: RUF012 - read by pydantic, not a key

    name: str
    kind: Literal["image"]
    width: int
    height: int
    color_layout: str
    optional: NotRequired[bool]
    size_ranges: NotRequired[list[list[int]]]
    enumerated_sizes: NotRequired[list[list[int]]]


class OtherFeature(TypedDict):
    """A feature that is neither: the label of a classifier, a number."""

    __pydantic_config__ = {"extra": "allow"}  # type: ignore[misc]  # noqa: RUF012 - read by pydantic, not a key

    name: str
    kind: Literal["dictionary", "double", "int64", "sequence", "state", "string"]
    optional: NotRequired[bool]


Feature = TensorFeature | ImageFeature | OtherFeature


@dataclass(frozen=True, kw_only=True)
class SealedFacts:
    """What the artifact says of itself."""

    format: str
    size_bytes: int
    semantic_digest: str
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    functions: Mapping[str, Mapping[str, tuple[Feature, ...]]]
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


@dataclass(frozen=True, kw_only=True)
class SensitivityFacts:
    """How much noise each layer adds; see `builder.auto.sensitivity`."""

    measured: Mapping[str, Any]
