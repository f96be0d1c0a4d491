"""What every kind of detector has: a way to decoded boxes and scores, and its own way to what it keeps of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from builder.artifacts.stages import Suppression
from builder.model.detection.candidates import Pool
from builder.model.detection.kept import Detections


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What holds where the recipe says nothing."""

    iou_threshold: float = 0.45
    confidence_threshold: float = 0.25
    detections: int = 300


class Head(Protocol):
    """A torch module that is part of what is captured; its `forward` is arithmetic that stays in float32."""

    pool: Pool
    defaults: Defaults

    def run(self, model: nn.Module, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (P, 4) or (P, C, 4), centres and sizes as shares, and scores (P, C) from 0 to 1."""
        ...

    def original(self, model: nn.Module, picture: Tensor, suppression: Suppression) -> Detections:
        """What the model's own post-processing, or torchvision's where it has none, keeps."""
        ...


class ReturnsPictures(nn.Module):
    """Stands in for the transform of a torchvision detector: pictures are of their size and normalised already."""

    def __init__(self, size_divisible: int) -> None:
        super().__init__()
        self.size_divisible = size_divisible

    def forward(self, images: list[Tensor], targets: None = None) -> tuple[object, None]:
        """Pad to what the backbone divides by, as torchvision does after normalisation."""
        from torchvision.models.detection.image_list import ImageList

        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        return ImageList(padded(torch.stack(list(images)), self.size_divisible), sizes), targets

    def postprocess(self, result: object, *_sizes: object) -> object:
        """Boxes are in pixels of the picture as it was given."""
        return result


def padded(pictures: Tensor, size_divisible: int) -> Tensor:
    """(N, C, H, W) with zeros on the right and below, so that both sizes can be divided."""
    height, width = (-int(size) % size_divisible for size in pictures.shape[-2:])
    return nn.functional.pad(pictures, (0, width, 0, height)) if height or width else pictures
