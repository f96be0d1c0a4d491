"""Models of the zoo that no source of the builder makes: detectors without their post-processing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from builder.sources.seeded import initialise_seeded
from builder.torchvision_import import import_torchvision


class RawDetector(nn.Module):
    """A torchvision detector up to its heads: scores and boxes of each anchor, before they are decoded and chosen."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone = detector.backbone
        self.head = detector.rpn.head if hasattr(detector, "rpn") else detector.head

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Run backbone and heads on a normalised picture (1, 3, H, W)."""
        features = self.backbone(image)
        heads = self.head(list(features.values()) if isinstance(features, dict) else [features])
        if isinstance(heads, dict):
            return dict(heads)
        scores, boxes = heads
        return {
            **{f"scores_{i}": level for i, level in enumerate(scores)},
            **{f"boxes_{i}": level for i, level in enumerate(boxes)},
        }


def raw_detector(name: str, size: int) -> nn.Module:
    """Make torchvision's detector `name` with seeded weights, for pictures of `size` times `size`."""
    detection = import_torchvision().models.detection
    detector = getattr(detection, name)(weights=None, weights_backbone=None)
    module = RawDetector(detector)
    generator = torch.Generator().manual_seed(0)
    initialise_seeded(module, [torch.randn(1, 3, size, size, generator=generator)], 0)
    return module
