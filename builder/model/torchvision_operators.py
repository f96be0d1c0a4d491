"""torchvision's compiled operators that its detectors call, written in torch, for where those do not load."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_AT_ONCE = 32
"""Boxes whose features are pooled together: with 256 channels they have some MB of samples each."""


def non_maximum_suppression(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices of the boxes that stay, best score first, as int64 (K,).

    `dets` is (N, 4) as x1, y1, x2, y2 and `scores` is (N,). The best box removes all others whose intersection over
    union with it exceeds the threshold, then the next best that is left, and so on (torchvision.ops.nms).
    """
    order = torch.argsort(scores, descending=True, stable=True)
    boxes = dets[order]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    removed = torch.zeros(len(order), dtype=torch.bool)
    kept: list[int] = []
    for i in range(len(order)):
        if removed[i]:
            continue
        kept.append(i)
        top_left = torch.maximum(boxes[i, :2], boxes[i + 1 :, :2])
        bottom_right = torch.minimum(boxes[i, 2:], boxes[i + 1 :, 2:])
        intersection = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        # As in the compiled operator the overlap is single precision and the threshold double: 0.2f exceeds 0.2.
        removed[i + 1 :] |= (intersection / (areas[i] + areas[i + 1 :] - intersection)).double() > iou_threshold
    return order[torch.tensor(kept, dtype=torch.int64)]


def roi_align(
    maps: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Features of boxes `rois` (K, 5), each a picture's number and corners, of `maps` (N, C, H, W); (K, C, h, w).

    A sample over a pixel outside of the map is 0 (torchvision's roi_align_common.h); its formula in Python, which
    torchvision compiles where this operator is missing, takes the edge there.
    """
    if sampling_ratio > 0:
        parts, counts = list(torch.split(rois, _AT_ONCE)), None
    else:
        parts, counts = list(torch.split(rois, 1)), (pooled_height, pooled_width)
    rows = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
    found = [maps.new_zeros((0, maps.shape[1], pooled_height, pooled_width))]
    for part in parts if len(rois) else ():
        corners = part[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
        low, size = corners[:, :2], corners[:, 2:] - corners[:, :2]
        size = size if aligned else size.clamp(min=1.0)
        each = (
            [sampling_ratio] * 2 if counts is None else [math.ceil(float(size[0, 1 - i]) / counts[i]) for i in (0, 1)]
        )
        y = _samples(low[:, 1], size[:, 1], pooled_height, each[0], maps.shape[2])
        x = _samples(low[:, 0], size[:, 0], pooled_width, each[1], maps.shape[3])
        first = part[:, 0].long() * (maps.shape[2] * maps.shape[3])
        pooled = _interpolated(rows, first, y, x, maps.shape[3])
        bins = pooled.reshape(len(part), pooled_height, each[0], pooled_width, each[1], -1)
        found.append(bins.mean(dim=(2, 4)).permute(0, 3, 1, 2))
    return torch.cat(found)


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """Places on an axis, (K, n): between two pixels, and how near the second is."""

    low: Tensor
    high: Tensor
    weight: Tensor
    inside: Tensor


def _samples(start: Tensor, size: Tensor, bins: int, each: int, length: int) -> _Samples:
    steps = (torch.arange(bins * each, dtype=start.dtype) + 0.5) / max(bins * each, 1)
    places = start[:, None] + steps * size[:, None]
    within = places.clamp(0, length - 1)
    low = within.floor().long()
    return _Samples(
        low=low,
        high=(low + 1).clamp(max=length - 1),
        weight=(within - low)[..., None],
        inside=((places >= -1) & (places <= length))[..., None],
    )


def _interpolated(rows: Tensor, first: Tensor, y: _Samples, x: _Samples, width: int) -> Tensor:
    """(K, h, w, C) of pixels (N * H * W, C); `first` (K,) is the first pixel of each box's map."""

    def pixels(row: Tensor, column: Tensor) -> Tensor:
        index = first[:, None, None] + row[:, :, None] * width + column[:, None, :]
        return rows[index.flatten()].reshape(*index.shape, -1)

    across, down = x.weight[:, None], y.weight[:, :, None]
    upper = torch.lerp(pixels(y.low, x.low), pixels(y.low, x.high), across)
    lower = torch.lerp(pixels(y.high, x.low), pixels(y.high, x.high), across)
    return torch.lerp(upper, lower, down) * (y.inside[:, :, None] & x.inside[:, None])
