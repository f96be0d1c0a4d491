"""Why a stage has no stored result: what differs from the nearest earlier one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.store.actions import Action, Store

ABSENT = "(none)"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One input that differs from an earlier result's."""

    label: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.label}: {short(self.old)} -> {short(self.new)}"


def nearest_changes(store: Store, stage: str, inputs: Mapping[str, Any]) -> tuple[Change, ...] | None:
    """Return how `inputs` differ from those of the nearest stored result of `stage`, the newest of equally near ones.

    None where the stage never ran. Where `inputs` say nothing of an earlier stage (`after …`), nothing is compared.
    """
    best: tuple[int, float, tuple[Change, ...]] | None = None
    for path, action in store.actions(stage):
        changes = changes_between(action, inputs)
        rank = (len(changes), -path.stat().st_mtime)
        if best is None or rank < best[:2]:
            best = (*rank, changes)
    return None if best is None else best[2]


def changes_between(action: Action, inputs: Mapping[str, Any]) -> tuple[Change, ...]:
    """The inputs that differ, sorted by label."""
    known = any(label.startswith("after ") for label in inputs)
    labels = [label for label in {**action.inputs, **inputs} if known or not label.startswith("after ")]
    return tuple(
        Change(label=label, old=action.inputs.get(label, ABSENT), new=inputs.get(label, ABSENT))
        for label in sorted(labels)
        if action.inputs.get(label, ABSENT) != inputs.get(label, ABSENT)
    )


def short(value: Any) -> str:
    """A value on a line: digests are cut, long texts too."""
    text = str(value)
    if text.startswith("sha256:"):
        return f"{text[:19]}…"
    return text if len(text) <= 60 else f"{text[:57]}…"


def told(changes: Sequence[Change] | None) -> list[str]:
    """The changes as lines, those that merely follow from an earlier stage last."""
    if changes is None:
        return ["never built before"]
    return [str(change) for change in sorted(changes, key=lambda c: c.label.startswith("after "))]
