"""The first stage of a detector of two: the best boxes that may hold something, as many for every picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from builder.model.detection.boxes import from_offsets, to_center_size
from builder.model.detection.suppress import suppress

if TYPE_CHECKING:
    from torchvision.models.detection.rpn import RegionProposalNetwork

NEARLY = 10
"""Rounding brings up to one in so many boxes of a level, and so many more, among the best."""


class Proposals(nn.Module):
    """What torchvision.models.detection.rpn.RegionProposalNetwork.filter_proposals does, with a fixed number of boxes.

    Where too few stay, boxes without a size fill up; they come last and are marked as not real.
    """

    least: Tensor

    def __init__(self, network: RegionProposalNetwork, anchors: Sequence[Tensor], height: int, width: int) -> None:
        """`anchors` are by level, centres and sizes as shares of a picture of `height` times `width` pixels."""
        super().__init__()
        self._before, self._after = network.pre_nms_top_n(), network.post_nms_top_n()
        self._threshold, self._least_score = float(network.nms_thresh), float(network.score_thresh)
        self.register_buffer("least", torch.tensor([network.min_size / width, network.min_size / height]))
        self.weights = tuple(map(float, network.box_coder.weights))
        self._sizes = [len(level) for level in anchors]
        for index, level in enumerate(anchors):
            self.register_buffer(f"anchors_{index}", level)

    def forward(self, offsets: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets (A, 4) and logits (A,) of all levels to centres and sizes (P, 4) as shares, and 1 or 0 for real."""
        levels = zip(torch.split(offsets, self._sizes), torch.split(logits, self._sizes), strict=True)
        found = [self._level(index, *level) for index, level in enumerate(levels)]
        boxes, scores, real = (torch.cat(parts) for parts in zip(*found, strict=True))
        if len(scores) > self._after:
            _, order = torch.where(real > 0, scores, -1.0).topk(self._after)
            boxes, real = boxes[order], real[order]
        return to_center_size(boxes), real

    def before_suppression(self, offsets: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` gives, whichever overlapping boxes stay, and some that were nearly among the best."""
        levels = zip(torch.split(offsets, self._sizes), torch.split(logits, self._sizes), strict=True)
        most = self._before + self._before // NEARLY + NEARLY
        found = [self._best(index, *level, most) for index, level in enumerate(levels)]
        boxes, _, real = (torch.cat(parts) for parts in zip(*found, strict=True))
        return to_center_size(boxes), real

    def _best(self, index: int, offsets: Tensor, logits: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """Corners, scores, and which of them torchvision would not leave out, of the best boxes of one level."""
        best, order = logits.topk(min(most, len(logits)))
        anchors = self.get_buffer(f"anchors_{index}")
        boxes = from_offsets(offsets[order], anchors[order], self.weights)
        scores = torch.sigmoid(best)
        large = (boxes[:, 2:] - boxes[:, :2] >= self.least).all(dim=1)
        return boxes, scores, (large & (scores >= self._least_score)).to(scores.dtype)

    def _level(self, index: int, offsets: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The boxes of one level that stay: none suppresses one of another level."""
        boxes, scores, real = self._best(index, offsets, logits, self._before)
        stays = suppress(boxes, scores * real, self._threshold, min(self._after, len(scores)))
        places = stays.clamp(min=0)
        real = torch.where(stays >= 0, real[places], 0.0)
        return boxes[places] * real[:, None], scores[places], real
