"""The nearest name is the most like; of equally like ones, that whose number is nearest."""

from __future__ import annotations

import pytest

from builder.util.suggest import nearest

TARGETS = ("ios13", "ios14", "ios18", "ios26", "macos15", "watchos9")


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("ios9", TARGETS, "ios13"),
        ("ios19", TARGETS, "ios18"),
        ("iOS13", TARGETS, "ios13"),
        ("palettize_5", ("palettize_2", "palettize_4", "palettize_8"), "palettize_4"),
        ("wieghts", ("weights", "seed"), "weights"),
        ("entirely", ("weights", "seed"), None),
        ("anything", (), None),
    ],
)
def test_nearest(name: str, names: tuple[str, ...], expected: str | None) -> None:
    assert nearest(name, names) == expected
