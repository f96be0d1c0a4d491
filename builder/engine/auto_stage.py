"""The choose stage: what `auto` stands for, as the store keeps it; `builder.auto` finds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from builder.artifacts import AutoResult, Float32Operator, TriedArtifact
from builder.engine.runner import Packed, Packing, Stage
from builder.store.digests import digest_of


def pack_chosen(chosen: AutoResult, packing: Packing) -> Packed:  # noqa: ARG001 - all stages pack alike
    """Everything about a choice is plain."""
    record = asdict(chosen)
    return Packed(output=digest_of([record["precision"], record["compression"]]), record=record)


def unpack_chosen(stage: Stage[AutoResult]) -> AutoResult:
    """The choice as it was packed."""
    return chosen_of(stage.record)


def chosen_of(record: Mapping[str, Any]) -> AutoResult:
    """The choice that the stage recorded."""
    tried = tuple(TriedArtifact(**entry) for entry in record["tried"])
    kept = tuple(Float32Operator(**entry) for entry in record["kept"])
    return AutoResult(**{**record, "tried": tried, "kept": kept, "notes": tuple(record["notes"])})
