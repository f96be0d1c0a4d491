"""Why a stage has no stored result: what differs from the nearest earlier one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.store.actions import ActionResult, Store
from builder.util.redact import redacted_values

ABSENT = "(none)"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One input that differs from an earlier result's."""

    label: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.label}: {short(self.old)} -> {short(self.new)}"


def nearest_changes(store: Store, stage: str, inputs: Mapping[str, object]) -> tuple[Change, ...] | None:
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


def changes_between(action: ActionResult, inputs: Mapping[str, object]) -> tuple[Change, ...]:
    """The inputs that differ, sorted by label; secrets are in neither."""
    inputs = redacted_values(dict(inputs))
    known = any(label.startswith("after ") for label in inputs)
    labels = [label for label in {**action.inputs, **inputs} if known or not label.startswith("after ")]
    return tuple(
        Change(label=label, old=action.inputs.get(label, ABSENT), new=inputs.get(label, ABSENT))
        for label in sorted(labels)
        if action.inputs.get(label, ABSENT) != inputs.get(label, ABSENT)
    )


def short(value: object) -> str:
    """A value on a line: digests are cut, long texts too."""
    text = str(value)
    if text.startswith("sha256:"):
        return f"{text[:19]}…"
    return text if len(text) <= 60 else f"{text[:57]}…"


_MOST = 10
"""As many differences as help; further ones say that the nearest result is of something else."""


def format_changes(changes: Sequence[Change] | None) -> list[str]:
    """The changes as lines, whole sections as one, and those that merely follow from an earlier stage last."""
    if changes is None:
        return ["never built before"]
    lines = [str(change) for change in sorted(_by_section(changes), key=lambda c: c.label.startswith("after "))]
    rest = len(lines) - _MOST
    return lines if rest < 2 else [*lines[:_MOST], f"and {rest} more differences"]


def _by_section(changes: Sequence[Change]) -> Iterator[Change]:
    """The changes, but one for all values of a section that is new, or gone, such as a step of `compression`."""
    sections: dict[str, list[Change]] = {}
    for change in changes:
        sections.setdefault(".".join(change.label.split(".")[:2]), []).append(change)
    for section, members in sections.items():
        inner = [change for change in members if change.label.startswith(f"{section}.")]
        is_new, is_gone = (all(getattr(c, side) == ABSENT for c in inner) for side in ("old", "new"))
        if len(inner) > 1 and (is_new or is_gone):
            yield from (change for change in members if change not in inner)
            kind = next((c for c in inner if c.label == f"{section}.kind"), None)
            many = f"{len(inner)} values"
            old, new = (many, many) if kind is None else (kind.old, kind.new)
            yield Change(label=section, old=ABSENT if is_new else old, new=ABSENT if is_gone else new)
        elif not _says_no_more(members, sections):
            yield from members


def _says_no_more(members: Sequence[Change], sections: Mapping[str, Sequence[Change]]) -> bool:
    """Whether all that these say is that a mapping was, or is, empty, whose new or old values are told anyway."""
    return all(
        {str(change.old), str(change.new)} == {"{}", ABSENT}
        and any(other.startswith(f"{change.label}.") for other in sections)
        for change in members
    )
