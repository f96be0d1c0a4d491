"""The choose stage: what `auto` stands for, as the store keeps it; `builder.auto` finds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from builder.artifacts import Chosen, Kept, Tried
from builder.engine.runner import Packed, Packing, Stage
from builder.store.digests import digest_of


def pack_chosen(chosen: Chosen, packing: Packing) -> Packed:  # noqa: ARG001 - all stages pack alike
    """Everything about a choice is plain."""
    record = asdict(chosen)
    return Packed(output=digest_of([record["precision"], record["compression"]]), record=record)


def unpack_chosen(stage: Stage[Chosen]) -> Chosen:
    """The choice as it was packed."""
    return chosen_of(stage.record)


def chosen_of(record: Mapping[str, Any]) -> Chosen:
    """The choice that the stage recorded."""
    tried = tuple(Tried(**entry) for entry in record["tried"])
    kept = tuple(Kept(**entry) for entry in record["kept"])
    return Chosen(**{**record, "tried": tried, "kept": kept, "notes": tuple(record["notes"])})
