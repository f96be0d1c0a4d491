"""The best pairs of box and class, against a plain enumeration of all pairs."""

from __future__ import annotations

from collections import defaultdict

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.model.detection.candidates import Candidates, Pool


def by_hand(scores: torch.Tensor, pool: Pool, count: int) -> set[tuple[int, int]]:
    """(box, class) of the best pairs, sorted in Python."""
    pairs = [(float(score), box, c) for box, row in enumerate(scores) for c, score in enumerate(row)]
    if pool.best_class:
        pairs = [max(p for p in pairs if p[1] == box) for box in range(len(scores))]
    groups = defaultdict(list)
    for pair in sorted(pairs, reverse=True):
        level = next((i for i in range(len(pool.levels)) if pair[1] < sum(pool.levels[: i + 1])), pair[2])
        groups[level].append(pair)
    allowed = [pair for group in groups.values() for pair in group[: pool.most]]
    return {(box, c) for _, box, c in sorted(allowed, reverse=True)[:count]}


@given(
    seed=st.integers(0, 10**6),
    boxes=st.integers(2, 12),
    classes=st.integers(1, 4),
    count=st.integers(1, 30),
    most=st.none() | st.integers(1, 6),
    kind=st.sampled_from(["classes", "levels", "best"]),
)
@settings(max_examples=60, deadline=None)
def test_the_best_pairs(seed: int, boxes: int, classes: int, count: int, most: int | None, kind: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores, places = torch.rand(boxes, classes, generator=generator), torch.rand(boxes, 4, generator=generator)
    pool = Pool(
        best_class=kind == "best",
        levels=(1, boxes - 1) if kind == "levels" else (),
        most=None if kind == "best" else most,
    )
    # when
    confidence, coordinates = Candidates(pool, count)(places, scores)
    # then each row has one class, the score of its pair, and the box of its pair
    found = set()
    for row, box in zip(confidence, coordinates, strict=True):
        (c,) = row.nonzero().flatten().tolist()
        (number,) = [i for i in range(boxes) if torch.equal(places[i], box)]
        assert row[c] == scores[number, c]
        found.add((number, c))
    assert found == by_hand(scores, pool, count)
    assert len(found) == len(confidence)


def test_boxes_of_each_class_go_with_their_class() -> None:
    places = torch.arange(2 * 3 * 4, dtype=torch.float32).view(2, 3, 4)
    scores = torch.tensor([[0.1, 0.9, 0.2], [0.3, 0.4, 0.8]])
    confidence, coordinates = Candidates(Pool(), 3)(places, scores)
    assert confidence.argmax(1).tolist() == [1, 2, 1]
    assert torch.equal(coordinates, torch.stack([places[0, 1], places[1, 2], places[1, 1]]))
