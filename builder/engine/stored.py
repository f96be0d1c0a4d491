"""What the record of each stage must be, so that a result that somebody else wrote is a miss and not a failure.

A store may be shared: what lies in it is read as a download is. The types are those that stages pass on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from builder.artifacts import (
    AutoResult,
    CheckReport,
    CompressionEffect,
    FlexibleSize,
    LayerWeights,
    LintFinding,
    MeasuredSteps,
    Preprocessing,
    SkippedLayer,
    SubstitutionEffect,
    Suppression,
    UsedLowering,
)
from builder.engine.auto_stage import chosen_of
from builder.engine.records import RestoredPreparedModel, compression, findings, lowerings, skipped


class _Network(TypedDict):
    answer: str


class _Evidence(TypedDict):
    """How the network looked when weights could not be had (see `builder.store.fallback`)."""

    at: float
    url: str | None
    state: _Network


class _Load(TypedDict):
    digest: str
    origin: dict[str, Any]
    seeded: bool
    preprocessing: Preprocessing | None
    labels: list[str] | None
    source_bytes: int
    fallback: _Evidence | None


class _Prepare(TypedDict):
    output_names: list[str]
    labels: list[str] | None
    substitutions: list[SubstitutionEffect]
    compression: list[CompressionEffect]
    skipped: list[SkippedLayer]
    normalization: dict[str, dict[str, list[float]]]
    states: dict[str, str]
    integer_outputs: list[str]
    suppression: Suppression | None
    preprocessing: Preprocessing | None
    flexible: list[dict[int, FlexibleSize]]


class _Capture(TypedDict):
    method: str
    frozen: list[Any]


class _Convert(TypedDict):
    lowerings: list[UsedLowering]
    modules: dict[str, str]


class _Compress(TypedDict):
    compression: list[CompressionEffect]
    skipped: list[SkippedLayer]


class _Feature(TypedDict):
    name: str
    kind: str
    optional: NotRequired[bool]
    default_value: NotRequired[float]


class _Tensor(_Feature):
    """A feature of `kind: tensor`."""

    shape: list[int]
    dtype: str
    ranges: NotRequired[list[list[int]]]
    enumerated_shapes: NotRequired[list[list[int]]]


class _Image(_Feature):
    """A feature of `kind: image`."""

    width: int
    height: int
    color_layout: str
    size_ranges: NotRequired[list[list[int]]]
    enumerated_sizes: NotRequired[list[list[int]]]


class _Seal(TypedDict):
    format: str
    size_bytes: int
    semantic_digest: str | None
    inputs: list[_Feature]
    outputs: list[_Feature]
    functions: dict[str, Any]
    op_counts: dict[str, int]
    weights: list[dict[str, Any]]
    lint: list[LintFinding]


class _Verify(TypedDict):
    checks: list[CheckReport]


class _Method(TypedDict):
    method: str
    failures: dict[str, str]


_RECORDS: Mapping[str, Any] = {
    "load": _Load,
    "prepare": _Prepare,
    "capture": _Capture,
    "convert": _Convert,
    "compress": _Compress,
    "seal": _Seal,
    "verify": _Verify,
    "measure": MeasuredSteps,
    "choose": AutoResult,
    "method": _Method,
    "sensitivity": dict[str, Any],
}


def is_readable(stage: str, record: Mapping[str, Any]) -> bool:
    """Whether a record has what later stages and the report read of this stage, each of its type."""
    if stage == "measure" and not record:
        return True  # nothing was measured
    try:
        _adapter(stage).validate_json(json.dumps(record), strict=True)
        return _fits(stage, record)
    except (ValidationError, ValueError, TypeError, KeyError, AttributeError):
        return False


@cache
def _adapter(stage: str) -> TypeAdapter[Any]:
    return TypeAdapter(_RECORDS[stage])


def _fits(stage: str, record: Mapping[str, Any]) -> bool:
    """Read a record as later stages do, which refuses fields that nobody knows; raises TypeError and its like."""
    if stage == "prepare":
        RestoredPreparedModel(record, _never)
    elif stage == "convert":
        lowerings(record)
    elif stage == "compress":
        _ = compression(record), skipped(record)
    elif stage == "seal":
        if not all(finding.examples for finding in findings(record)):
            return False
        weights = [{**entry, "module": ""} for entry in record["weights"]]
        _ = [LayerWeights(**entry) for entry in weights]
        _weights().validate_json(json.dumps(weights), strict=True)
        for feature in (*record["inputs"], *record["outputs"]):
            _feature(feature["kind"]).validate_json(json.dumps(feature), strict=True)
    elif stage == "choose":
        chosen_of(record)
    return True


def _never() -> Any:
    raise AssertionError("nothing is made while a record is looked at")


@cache
def _feature(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter({"tensor": _Tensor, "image": _Image}.get(kind, _Feature))


@cache
def _weights() -> TypeAdapter[list[LayerWeights]]:
    return TypeAdapter(list[LayerWeights])
