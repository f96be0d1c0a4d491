"""torchvision's detectors of one stage, SSD, RetinaNet and FCOS: anchors over all levels, decoded as it does itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from builder.artifacts.stages import Suppression
from builder.model.detection.boxes import from_distances, from_offsets, shares, to_center_size
from builder.model.detection.candidates import Pool
from builder.model.detection.head import Defaults, ReturnsPictures, padded
from builder.model.detection.kept import Detections

if TYPE_CHECKING:
    from torchvision.models.detection.faster_rcnn import FasterRCNN
    from torchvision.models.detection.fcos import FCOS
    from torchvision.models.detection.retinanet import RetinaNet
    from torchvision.models.detection.roi_heads import RoIHeads
    from torchvision.models.detection.ssd import SSD

Detector: TypeAlias = "SSD | RetinaNet | FCOS | FasterRCNN"
"""A detector of torchvision's."""


class SsdHead(nn.Module):
    """Softmax over classes, of which the first is the background (torchvision.models.detection.ssd)."""

    anchors: Tensor

    def __init__(self, model: SSD, picture: Tensor) -> None:
        super().__init__()
        self.defaults = _defaults(model)
        self.pool = Pool(most=model.topk_candidates)
        self.weights = tuple(map(float, model.box_coder.weights))
        self._divisor = model.transform.size_divisible
        self.register_buffer("anchors", torch.cat(anchors_of(model, picture)))

    def forward(self, offsets: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets (P, 4) and logits (P, 1 + C) to boxes and scores."""
        corners = from_offsets(offsets, self.anchors, self.weights)
        return to_center_size(corners), torch.softmax(logits, dim=-1)[:, 1:]

    def run(self, model: SSD, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Run backbone and head, then decode."""
        heads = model.head(features_of(model, padded(picture, self._divisor)))
        decoded: tuple[Tensor, Tensor] = self(heads["bbox_regression"][0], heads["cls_logits"][0])
        return decoded

    def original(self, model: Detector, picture: Tensor, suppression: Suppression) -> Detections:
        """Torchvision's own forward, whose classes begin with the background."""
        return torchvision_keeps(model, model, picture, suppression, background=1)


class RetinaHead(nn.Module):
    """A sigmoid for each class, the best pairs of each level (torchvision.models.detection.retinanet)."""

    anchors: Tensor

    def __init__(self, model: RetinaNet, picture: Tensor) -> None:
        super().__init__()
        self.defaults = _defaults(model)
        anchors = anchors_of(model, picture)
        self.pool = Pool(levels=tuple(len(level) for level in anchors), most=model.topk_candidates)
        self.weights = tuple(map(float, model.box_coder.weights))
        self._divisor = model.transform.size_divisible
        self.register_buffer("anchors", torch.cat(anchors))

    def forward(self, offsets: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets (P, 4) and logits (P, C) to boxes and scores."""
        return to_center_size(from_offsets(offsets, self.anchors, self.weights)), torch.sigmoid(logits)

    def run(self, model: RetinaNet, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Run backbone and head, then decode."""
        heads = model.head(features_of(model, padded(picture, self._divisor)))
        decoded: tuple[Tensor, Tensor] = self(heads["bbox_regression"][0], heads["cls_logits"][0])
        return decoded

    def original(self, model: Detector, picture: Tensor, suppression: Suppression) -> Detections:
        """Torchvision's own forward."""
        return torchvision_keeps(model, model, picture, suppression, background=0)


class FcosHead(nn.Module):
    """Distances to four sides; a sigmoid of each class times one of the centre (torchvision.models.detection.fcos)."""

    anchors: Tensor
    unit: Tensor

    def __init__(self, model: FCOS, picture: Tensor) -> None:
        super().__init__()
        self.defaults = _defaults(model)
        anchors = anchors_of(model, picture)
        self.pool = Pool(levels=tuple(len(level) for level in anchors), most=model.topk_candidates)
        self._divisor = model.transform.size_divisible
        height, width = picture.shape[-2:]
        unit = torch.tensor([1 / width, 1 / height, 1 / width, 1 / height])
        self.register_buffer("anchors", torch.cat(anchors))
        self.register_buffer("unit", self.anchors[:, [2, 3, 2, 3]] if model.box_coder.normalize_by_size else unit)

    def forward(self, distances: Tensor, logits: Tensor, centred: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (P, 4), logits (P, C) and those of being at the centre (P, 1) to boxes and scores."""
        corners = from_distances(distances * self.unit, self.anchors[:, :2])
        return to_center_size(corners), torch.sqrt(torch.sigmoid(logits) * torch.sigmoid(centred))

    def run(self, model: FCOS, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Run backbone and head, then decode."""
        heads = model.head(features_of(model, padded(picture, self._divisor)))
        rows = (heads[name][0] for name in ("bbox_regression", "cls_logits", "bbox_ctrness"))
        decoded: tuple[Tensor, Tensor] = self(*rows)
        return decoded

    def original(self, model: Detector, picture: Tensor, suppression: Suppression) -> Detections:
        """Torchvision's own forward."""
        return torchvision_keeps(model, model, picture, suppression, background=0)


def _defaults(model: Detector) -> Defaults:
    return Defaults(
        iou_threshold=model.nms_thresh,
        confidence_threshold=model.score_thresh,
        detections=model.detections_per_img,
    )


def features_of(model: Detector, pictures: Tensor) -> list[Tensor]:
    """What the backbone gives, level by level."""
    return list(named_features(model, pictures).values())


def named_features(model: Detector, pictures: Tensor) -> Mapping[str, Tensor]:
    """What the backbone gives, by the names that torchvision knows its levels by."""
    features = model.backbone(pictures)
    return {"0": features} if isinstance(features, Tensor) else features


def anchors_of(model: Detector, picture: Tensor) -> list[Tensor]:
    """By level, centres and sizes of anchors as shares of the picture (1, C, H, W), in the order of the head's rows."""
    generator = model.rpn.anchor_generator if hasattr(model, "rpn") else model.anchor_generator
    images, _ = ReturnsPictures(model.transform.size_divisible)([picture[0]])
    with torch.no_grad():
        features = features_of(model, images.tensors)
        (anchors,) = generator(images, features)
    boxes = shares(anchors, *picture.shape[-2:])
    cells = [int(level.shape[-2] * level.shape[-1]) for level in features]
    each = generator.num_anchors_per_location()
    return list(torch.split(boxes, [count * size for count, size in zip(each, cells, strict=True)]))


def torchvision_keeps(
    model: Detector, thresholds: Detector | RoIHeads, picture: Tensor, suppression: Suppression, *, background: int
) -> Detections:
    """Run all of torchvision's own code behind the normalisation, with the thresholds that the artifact has.

    `thresholds` is the part of `model` that has them. Its first `background` classes are not in the artifact.
    """
    detector = shallow(model)
    detector._modules["transform"] = ReturnsPictures(model.transform.size_divisible)
    part = detector
    if thresholds is not model:
        part = shallow(thresholds)
        detector._modules[next(name for name, child in model._modules.items() if child is thresholds)] = part
    part.score_thresh = suppression.confidence_threshold
    part.nms_thresh = suppression.iou_threshold
    part.detections_per_img = suppression.detections
    (found,) = detector([picture[0]])
    boxes = shares(found["boxes"], *picture.shape[-2:])
    return Detections(boxes=boxes, scores=found["scores"], classes=found["labels"] - background)


def shallow(module: nn.Module) -> Any:
    """A copy with the same parameters and children, whose own attributes can be changed."""
    made = copy.copy(module)
    made._modules = dict(module._modules)
    return made
