"""MIL's non-maximum suppression, in the layouts of iOS15 and iOS17."""

from __future__ import annotations

import torch
from torch import Tensor

from coreml_runtime.ops.context import Context
from coreml_runtime.ops.table import table


def non_maximum_suppression(
    *,
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_boxes: int,
    score_threshold: float | None = None,
    per_class_suppression: bool = False,
    context: Context,
) -> tuple[Tensor, ...]:
    """Keep the best boxes (x centre, y centre, width, height) that do not overlap a better one.

    Up to iOS16: boxes (N, B, 4) and scores (N, B, K); returns boxes (N, M, 4), scores (N, M, K), indices (N, M) and
    counts (N), padded with zeros and index -1. From iOS17: boxes (N, 4, B), scores (N, K, B), no score threshold and
    no counts; the outputs are transposed alike. Where nothing survives, the best box is kept.
    """
    boxes_last = context.since("ios17")
    if boxes_last:
        boxes, scores = boxes.transpose(1, 2), scores.transpose(1, 2)
    batch, _, classes = scores.shape
    kept_boxes = boxes.new_zeros((batch, max_boxes, 4))
    kept_scores = scores.new_zeros((batch, max_boxes, classes))
    indices = torch.full((batch, max_boxes), -1, dtype=torch.int32)
    counts = torch.zeros(batch, dtype=torch.int32)
    for n in range(batch):
        chosen = select_boxes(
            boxes[n],
            scores[n],
            iou_threshold,
            score_threshold,
            max_boxes,
            per_class_suppression,
            at_threshold=boxes_last,
        )
        if not chosen.numel() and boxes.shape[1]:
            chosen = scores[n].amax(dim=1).argmax().reshape(1)
        count = chosen.numel()
        kept_boxes[n, :count], kept_scores[n, :count] = boxes[n][chosen], scores[n][chosen]
        indices[n, :count], counts[n] = chosen.to(torch.int32), count
    if boxes_last:
        return kept_boxes.transpose(1, 2), kept_scores.transpose(1, 2), indices
    return kept_boxes, kept_scores, indices, counts


def select_boxes(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    score_threshold: float | None,
    max_boxes: int,
    per_class: bool,
    *,
    at_threshold: bool = False,
) -> Tensor:
    """Indices of the kept boxes, best first; boxes (B, 4) as centre and size, scores (B, K).

    A box goes when its overlap exceeds the threshold; with `at_threshold` also when it equals it and is not 0: so it is
    since iOS17 (coremltools' test_nms_corner_case_iou_equal_threshold, and test_nms with a threshold of 0).
    One pass a kept box over those that remain: no B x B matrix, which thousands of candidates would not fit into.
    """
    best, label = scores.max(dim=1)
    order = best.argsort(descending=True, stable=True)
    if score_threshold is not None:
        order = order[best[order] > score_threshold]
    corners, area = _corners(boxes), boxes[:, 2] * boxes[:, 3]
    chosen: list[Tensor] = []
    while order.numel() and len(chosen) < max_boxes:
        first, order = order[0], order[1:]
        chosen.append(first)
        overlap = _overlap(corners[first], corners[order], area[first], area[order])
        drop = (overlap >= iou_threshold) & (overlap > 0) if at_threshold else overlap > iou_threshold
        if per_class:
            drop &= label[order] == label[first]
        order = order[~drop]
    return torch.stack(chosen) if chosen else order.new_zeros(0)


def _corners(boxes: Tensor) -> Tensor:
    centre, half = boxes[:, :2], boxes[:, 2:] * 0.5
    return torch.cat([centre - half, centre + half], dim=1)


def _overlap(box: Tensor, others: Tensor, area: Tensor, areas: Tensor) -> Tensor:
    """Intersection over union of one box with (R) others; 0 for boxes without area."""
    size = (torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2])).clamp(min=0)
    intersection = size[:, 0] * size[:, 1]
    union = area + areas - intersection
    return torch.where(union > 0, intersection / union, torch.zeros_like(union))


OPS = table(non_maximum_suppression)
