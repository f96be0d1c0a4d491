"""The best pairs of box and class, as many as non-maximum suppression is to see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Which pairs of box and class there are to choose from, before the best of all are taken."""

    best_class: bool = False
    """A box is of its best class alone."""
    levels: tuple[int, ...] = ()
    """How many boxes each level of a pyramid has, in order."""
    most: int | None = None
    """How many pairs of each level, or where there are none of each class, are in it at most."""


class Candidates(nn.Module):
    """Boxes (P, 4) or (P, C, 4) and scores (P, C) to the `count` best pairs, in no order that counts.

    Each row has one class: its confidence is there, and 0 for all others. Core ML takes the sum of a row for the
    confidence that there is an object (NonMaximumSuppression.proto).
    """

    def __init__(self, pool: Pool, count: int) -> None:
        super().__init__()
        self.pool = pool
        self.count = count

    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Confidences (K, C) and coordinates (K, 4); K is `count`, or less where there are fewer pairs."""
        classes = scores.shape[1]
        values, rows, columns = _pool(scores, self.pool, self.count)
        if self.count < values.shape[0]:
            values, order = values.topk(self.count)
            rows, columns = rows[order], columns[order]
        chosen = boxes[rows] if boxes.ndim == 2 else boxes.flatten(0, 1)[rows * classes + columns]
        is_class = columns[:, None] == torch.arange(classes, device=columns.device)[None]
        return is_class.to(values.dtype) * values[:, None], chosen


def _pool(scores: Tensor, pool: Pool, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of pairs, with the box and the class of each; (M,)."""
    boxes, classes = scores.shape
    if pool.best_class:
        values, columns = scores.max(dim=1)
        return values, torch.arange(boxes), columns
    if pool.levels:
        return _of_levels(scores, pool.levels, boxes * classes if pool.most is None else pool.most)
    if pool.most is None or pool.most >= min(boxes, count):  # the best of all are no more of any class
        flat = scores.flatten()
        values, pairs = flat.topk(min(count, flat.shape[0]))
        rows = torch.div(pairs, classes, rounding_mode="floor")
        return values, rows, pairs - rows * classes
    most = min(pool.most, boxes)
    values, rows = scores.transpose(0, 1).topk(most, dim=1)
    columns = torch.arange(classes)[:, None].expand(classes, most)
    return values.flatten(), rows.flatten(), columns.flatten()


def _of_levels(scores: Tensor, levels: Sequence[int], most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs of each level, as torchvision's RetinaNet takes them."""
    classes, start = scores.shape[1], 0
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for size in levels:
        flat = scores[start : start + size].flatten()
        values, pairs = flat.topk(min(most, flat.shape[0]))
        rows = torch.div(pairs, classes, rounding_mode="floor")
        found.append((values, rows + start, pairs - rows * classes))
        start += size
    values, rows, columns = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values, rows, columns
