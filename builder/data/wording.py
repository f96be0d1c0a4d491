"""What checks are made on, in words: "41 of your samples", "4 photographs"."""

from __future__ import annotations

_DRAWN = {
    "photographs": ("photograph", "photographs"),
    "digits": ("handwritten digit", "handwritten digits"),
    "noise": ("draw of noise", "draws of noise"),
    "sounds": ("synthesised sound", "synthesised sounds"),
    "text_ids": ("text of synthetic token ids", "texts of synthetic token ids"),
    "tables": ("set of synthetic table rows", "sets of synthetic table rows"),
    "text_boxes": ("drawn picture of text", "drawn pictures of text"),
}
"""By kind of data that comes along: one, and several."""


def is_drawn(kind: str) -> bool:
    """Whether data of this kind comes along with builder, rather than from the user."""
    return kind in _DRAWN


def shown_count(kind: str, used: int, available: int | None) -> str:
    """Return how many samples of which kind; of a user's own (`available` in all) also how many of how many."""
    if is_drawn(kind):
        return f"{used:,} {_DRAWN[kind][used != 1]}"
    if available is None or used == available:
        return f"all {used:,} of your samples" if used != 1 else "your one sample"
    return f"{used:,} of your {available:,} samples"
