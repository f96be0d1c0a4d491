"""Boxes as arithmetic: corners against centres and sizes, offsets from anchors, shares of a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MOST_GROWTH = math.log(1000.0 / 16)
"""What torchvision's BoxCoder clamps the logarithm of a size to."""


def to_center_size(corners: Tensor) -> Tensor:
    """Left, top, right, bottom as x and y of the centre, width and height; (…, 4)."""
    low, high = corners[..., :2], corners[..., 2:]
    return torch.cat([(low + high) * 0.5, high - low], dim=-1)


def to_corners(boxes: Tensor) -> Tensor:
    """Centre and size as left, top, right, bottom; (…, 4)."""
    half = boxes[..., 2:] * 0.5
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def from_offsets(offsets: Tensor, anchors: Tensor, weights: Sequence[float]) -> Tensor:
    """Corners of boxes given by offsets from anchors, inside a picture of which they are shares.

    `offsets` (…, 4) are dx, dy, dw, dh as the network gives them, `anchors` centres and sizes as shares
    (torchvision.models.detection._utils.BoxCoder.decode_single, then clip_boxes_to_image).
    """
    wx, wy, ww, wh = weights
    scale = torch.tensor([1 / wx, 1 / wy, 1 / ww, 1 / wh])
    relative = offsets if all(weight == 1.0 for weight in weights) else offsets * scale
    center = relative[..., :2] * anchors[..., 2:] + anchors[..., :2]
    size = torch.exp(relative[..., 2:].clamp(max=MOST_GROWTH)) * anchors[..., 2:]
    return to_corners(torch.cat([center, size], dim=-1)).clamp(0.0, 1.0)


def from_distances(distances: Tensor, centers: Tensor) -> Tensor:
    """Corners of boxes given by distances to left, top, right and bottom, inside a picture of which all are shares.

    `distances` (…, 4), `centers` (…, 2) (torchvision.models.detection._utils.BoxLinearCoder.decode).
    """
    low, high = centers - distances[..., :2], centers + distances[..., 2:]
    return torch.cat([low, high], dim=-1).clamp(0.0, 1.0)


def shares(corners: Tensor, height: int, width: int) -> Tensor:
    """Corners in pixels as centres and sizes in shares of a picture."""
    return to_center_size(corners) / torch.tensor([width, height, width, height], dtype=corners.dtype)
