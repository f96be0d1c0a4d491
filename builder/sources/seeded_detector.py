"""Untrained torchvision detectors that find something: class scores spread apart, pictures as they come."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from builder.artifacts import Preprocessing
from builder.detection.head import ReturnsPictures
from builder.detection.pyramids import shallow
from builder.torchvision_import import import_torchvision

SPREAD = 2.0
"""Factor on the last layer of classification. Seeded logits vary by about 1, which over 90 classes leaves nearly every
score under 0.1; doubled, some hundred pairs of box and class are over 0.5, several of one class overlapping."""


def preparation(module: Any) -> Preprocessing:
    """What the transform inside a detector does to pictures, which goes into the artifact as for other models."""
    return Preprocessing(mean=tuple(module.transform.image_mean), std=tuple(module.transform.image_std))


class Untransformed(nn.Module):
    """A detector on normalised pictures (N, C, H, W), for the statistics of its batch norms."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = shallow(detector)
        self.detector._modules["transform"] = ReturnsPictures(detector.transform.size_divisible)

    def forward(self, pictures: Tensor) -> None:
        """Run all of it; what it finds is of no interest."""
        self.detector(list(pictures))


def spread_scores(module: nn.Module) -> None:
    """Multiply the weights of the layers that give class scores."""
    with torch.no_grad():
        for layer in _scoring(module):
            layer.weight.mul_(SPREAD)


def _scoring(module: Any) -> list[Any]:
    """The layers that give the scores of classes: of each level (SSD), or one for all."""
    if isinstance(module, import_torchvision().models.detection.ssd.SSD):
        levels = module.head.classification_head.module_list
        return [[layer for layer in level.modules() if isinstance(layer, nn.Conv2d)][-1] for level in levels]
    names = ("head.classification_head.cls_logits", "roi_heads.box_predictor.cls_score")
    return [layer for name, layer in module.named_modules() if name in names]
