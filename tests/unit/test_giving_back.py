"""Memory is given back when a process has grown, and not again for what it holds for good."""

from __future__ import annotations

import gc

import pytest

from builder.util import memory

GIGABYTE = 2**30


@pytest.mark.parametrize(
    ("resident", "collections"),
    [
        pytest.param([GIGABYTE - 1] * 3, 0, id="small"),
        pytest.param([2 * GIGABYTE] * 6, 1, id="large"),
        pytest.param([2 * GIGABYTE, 2 * GIGABYTE, 3 * GIGABYTE, 2 * GIGABYTE], 2, id="grown"),
        pytest.param([3 * GIGABYTE, 3 * GIGABYTE, GIGABYTE, 2 * GIGABYTE, 2 * GIGABYTE], 2, id="shrunk and grown"),
    ],
)
def test_memory_is_given_back_when_it_has_grown(
    resident: list[int], collections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(resident)
    seen: list[None] = []
    monkeypatch.setattr(memory, "_resident", lambda: next(left))
    monkeypatch.setattr(gc, "collect", lambda: seen.append(None))
    give_back = memory.GivingBack()

    for _ in range(len(resident) - collections):  # a collection asks a second time
        give_back()

    assert len(seen) == collections
    assert next(left, None) is None
