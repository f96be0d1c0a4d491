"""Non-maximum suppression against a plain greedy loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from coreml_runtime.ops.nms import non_maximum_suppression
from tests.runtime.contexts import make_context

IOS15, IOS17 = make_context("ios15"), make_context("ios17")


def _overlap(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2] / 2, b[0] + b[2] / 2) - max(a[0] - a[2] / 2, b[0] - b[2] / 2)
    height = min(a[1] + a[3] / 2, b[1] + b[3] / 2) - max(a[1] - a[3] / 2, b[1] - b[3] / 2)
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def _greedy(boxes: Tensor, scores: Tensor, iou: float, least: float, per_class: bool) -> list[int]:
    best, label = scores.max(dim=1)
    kept: list[int] = []
    for i in best.argsort(descending=True).tolist():
        rivals = [k for k in kept if not per_class or label[k] == label[i]]
        if best[i] > least and all(_overlap(boxes[i].tolist(), boxes[k].tolist()) <= iou for k in rivals):
            kept.append(i)
    return kept


def _scene(seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(1, 40, 4, generator=random) * 10 + 1, torch.randn(1, 40, 3, generator=random)


@pytest.mark.parametrize("per_class", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_it_keeps_what_a_greedy_loop_keeps(per_class: bool, seed: int) -> None:
    # given
    boxes, scores = _scene(seed)

    # when
    kept_boxes, kept_scores, indices, counts = non_maximum_suppression(
        boxes=boxes, scores=scores, iou_threshold=0.3, score_threshold=-0.2, max_boxes=25,
        per_class_suppression=per_class, context=IOS15,
    )  # fmt: skip

    # then
    expected = _greedy(boxes[0], scores[0], 0.3, -0.2, per_class)[:25]
    count = len(expected)
    assert counts.tolist() == [count]
    assert indices[0].tolist() == expected + [-1] * (25 - count)
    assert torch.equal(kept_boxes[0, :count], boxes[0, expected])
    assert not kept_boxes[0, count:].any()
    assert torch.equal(kept_scores[0, :count], scores[0, expected])
    assert not kept_scores[0, count:].any()


def test_since_ios17_boxes_are_the_last_axis_and_every_score_counts() -> None:
    # given
    boxes, scores = _scene(9)

    # when
    kept_boxes, kept_scores, indices = non_maximum_suppression(
        boxes=boxes.transpose(1, 2), scores=scores.transpose(1, 2), iou_threshold=0.3, max_boxes=25, context=IOS17
    )

    # then
    expected = _greedy(boxes[0], scores[0], 0.3, -torch.inf, False)[:25]
    assert indices[0].tolist() == expected + [-1] * (25 - len(expected))
    assert kept_boxes.shape == (1, 4, 25)
    assert kept_scores.shape == (1, 3, 25)
    assert torch.equal(kept_boxes[0, :, : len(expected)].T, boxes[0, expected])


def test_where_no_score_suffices_the_best_box_is_kept() -> None:
    # given
    boxes, scores = _scene(1)

    # when
    _, _, indices, counts = non_maximum_suppression(
        boxes=boxes, scores=scores, iou_threshold=0.3, score_threshold=1e9, max_boxes=2, context=IOS15
    )

    # then
    assert indices.tolist() == [[int(scores[0].amax(1).argmax()), -1]]
    assert counts.tolist() == [1]


def test_boxes_without_area_do_not_suppress() -> None:
    # given: the boxes of Apple's smoke test, and two that coincide without area
    boxes = torch.tensor([[[0.0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [3, 3, 3, 3]]])
    scores = torch.tensor([[[3.5], [9.4], [2.3], [0.7]]])

    # when
    _, _, indices, _ = non_maximum_suppression(
        boxes=boxes, scores=scores, iou_threshold=0.2, score_threshold=0.4, max_boxes=4, context=IOS15
    )

    # then
    assert indices.tolist() == [[1, 0, 2, 3]]
