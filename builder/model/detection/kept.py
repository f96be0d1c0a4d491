"""What a detector keeps in the end: boxes with one class and one score each, and the reference way to choose them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from builder.artifacts.stages import Suppression
from builder.model.detection.boxes import to_corners
from builder.model.torchvision_import import import_torchvision


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Boxes that stay, the best first."""

    boxes: Tensor
    """(N, 4): centre and size as shares of the picture."""
    scores: Tensor
    """(N,)."""
    classes: Tensor
    """(N,), int64, from 0."""


def keep_best(boxes: Tensor, scores: Tensor, suppression: Suppression) -> Detections:
    """Of boxes (P, 4) with scores (P, C) those of torchvision.ops.batched_nms, each of its best class."""
    best, classes = scores.max(dim=1)
    sure = best >= suppression.confidence_threshold
    boxes, best, classes = boxes[sure], best[sure], classes[sure]
    operations = import_torchvision().ops
    stays = operations.batched_nms(to_corners(boxes), best, classes, suppression.iou_threshold)
    stays = stays[: suppression.detections]
    return Detections(boxes=boxes[stays], scores=best[stays], classes=classes[stays])


def read_kept(confidence: Tensor, coordinates: Tensor) -> Detections:
    """What Core ML's last stage gives: confidences (N, C) and boxes (N, 4)."""
    if not confidence.shape[0]:
        return Detections(
            boxes=coordinates.reshape(0, 4), scores=torch.zeros(0), classes=torch.zeros(0, dtype=torch.int64)
        )
    scores, classes = confidence.max(dim=1)
    return Detections(boxes=coordinates, scores=scores, classes=classes)


def described(kept: Detections, labels: Sequence[str], most: int) -> str:
    """The best boxes in words: `3 boxes: person 0.91 at 0.50, 0.40 (0.20 × 0.70); …`."""
    count = len(kept.scores)
    if not count:
        return "no boxes"
    shown = []
    for box, score, label in zip(kept.boxes[:most].tolist(), kept.scores.tolist(), kept.classes.tolist(), strict=False):
        x, y, width, height = box
        shown.append(f"{labels[label]} {score:.3f} at {x:.3f}, {y:.3f} ({width:.3f} × {height:.3f})")
    more = "; …" if count > most else ""
    return f"{count} box{'es' if count != 1 else ''}: {'; '.join(shown)}{more}"
