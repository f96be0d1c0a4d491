"""torchvision's detectors of two stages, Faster R-CNN: proposals, features of each, and a box for each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from builder.artifacts.stages import Suppression
from builder.errors import ConfigurationError
from builder.model.detection.boxes import from_offsets, to_center_size
from builder.model.detection.candidates import Pool
from builder.model.detection.head import Defaults, padded
from builder.model.detection.kept import Detections
from builder.model.detection.pooling import BoxPooling
from builder.model.detection.proposals import Proposals
from builder.model.detection.pyramids import anchors_of, named_features, torchvision_keeps

if TYPE_CHECKING:
    from torchvision.models.detection.faster_rcnn import FasterRCNN

LEAST_PIXELS = 1e-2
"""Smaller boxes go (torchvision.models.detection.roi_heads.RoIHeads.postprocess_detections)."""

AT_ONCE = 256
"""Proposals whose features are computed together where there are many: each has some 200 KB."""


class TwoStageHead(nn.Module):
    """Softmax over classes, of which the first is the background, and a box of its own for each."""

    least: Tensor

    def __init__(self, model: FasterRCNN, picture: Tensor) -> None:
        super().__init__()
        if extra := finds_more(model):
            raise ConfigurationError(
                f"the model is a {type(model).__name__}: it looks for {extra} in the boxes that suppression keeps, "
                "which is behind the program, and Vision's observations have no place for them",
                code="B0251",
                hint=f"for boxes alone take a factory that sets `roi_heads.{extra.removesuffix('s')}_roi_pool = None`",
                key="detection.kind",
            )
        heads = model.roi_heads
        height, width = int(picture.shape[-2]), int(picture.shape[-1])
        self.defaults = Defaults(
            iou_threshold=heads.nms_thresh,
            confidence_threshold=heads.score_thresh,
            detections=heads.detections_per_img,
        )
        self.pool = Pool()
        self.weights = tuple(map(float, heads.box_coder.weights))
        self._divisor = model.transform.size_divisible
        self.propose_boxes = Proposals(model.rpn, anchors_of(model, picture), height, width)
        features = named_features(model, padded(picture, self._divisor))
        self.pool_boxes = BoxPooling(heads.box_roi_pool, features, height, width)
        self.register_buffer("least", torch.tensor([LEAST_PIXELS / width, LEAST_PIXELS / height]))

    def forward(self, offsets: Tensor, logits: Tensor, proposals: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets (P, 4 + 4 C) from proposals (P, 4) and logits (P, 1 + C) to boxes (P, C, 4) and scores (P, C).

        What torchvision leaves out has no score: proposals that are not real (P,), and boxes without a size.
        """
        classes = logits.shape[1]
        corners = from_offsets(offsets.reshape(-1, classes, 4)[:, 1:], proposals[:, None], self.weights)
        large = (corners[..., 2:] - corners[..., :2] >= self.least).all(dim=-1)
        scores = torch.softmax(logits, dim=-1)[:, 1:] * real[:, None]
        return to_center_size(corners), torch.where(large, scores, 0.0)

    def run(self, model: FasterRCNN, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Run backbone, proposals, and both heads on each, then decode."""
        features = named_features(model, padded(picture, self._divisor))
        logits, offsets = _rows(*model.rpn.head(list(features.values())))
        return self._classified(model, features, *self.propose_boxes(offsets, logits.flatten()))

    def run_all(self, model: FasterRCNN, picture: Tensor) -> tuple[Tensor, Tensor]:
        """What `run` gives for all boxes that may be proposals: which of two that overlap stays, rounding decides."""
        features = named_features(model, padded(picture, self._divisor))
        logits, offsets = _rows(*model.rpn.head(list(features.values())))
        proposals, real = self.propose_boxes.before_suppression(offsets, logits.flatten())
        parts = zip(torch.split(proposals, AT_ONCE), torch.split(real, AT_ONCE), strict=True)
        found = [self._classified(model, features, *part) for part in parts]
        boxes, scores = (torch.cat(tensors) for tensors in zip(*found, strict=True))
        return boxes, scores

    def _classified(
        self, model: FasterRCNN, features: Mapping[str, Tensor], proposals: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor]:
        pooled = self.pool_boxes(proposals, *(features[name] for name in self.pool_boxes.names))
        logits, offsets = model.roi_heads.box_predictor(model.roi_heads.box_head(pooled))
        decoded: tuple[Tensor, Tensor] = self(offsets, logits, proposals, real)
        return decoded

    def original(self, model: FasterRCNN, picture: Tensor, suppression: Suppression) -> Detections:
        """Torchvision's own forward, whose classes begin with the background."""
        return torchvision_keeps(model, model.roi_heads, picture, suppression, background=1)


def finds_more(model: nn.Module) -> str | None:
    """What the model looks for besides boxes: `masks` or `keypoints`."""
    heads = getattr(model, "roi_heads", None)
    for what in ("mask", "keypoint"):
        if getattr(heads, f"{what}_roi_pool", None) is not None:
            return f"{what}s"
    return None


def _rows(logits: list[Tensor], offsets: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Maps by level, (1, A, h, w) and (1, 4 A, h, w), as rows (P, 1) and (P, 4) in the order of anchors."""
    from torchvision.models.detection.rpn import concat_box_prediction_layers

    rows: tuple[Tensor, Tensor] = concat_box_prediction_layers(logits, offsets)
    return rows
