"""Features of boxes: means of samples of the level of a pyramid that fits a box (arXiv:1612.03144, 1703.06870)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from builder.errors import ConfigurationError

if TYPE_CHECKING:
    from torchvision.ops import MultiScaleRoIAlign
    from torchvision.ops.poolers import LevelMapper


class BoxPooling(nn.Module):
    """What torchvision.ops.MultiScaleRoIAlign does for the boxes of one picture, as one look-up in all levels.

    All levels lie below one another in one map, and each box has its samples in its own: none is computed for the
    levels that it does not have, and none is chosen afterwards.

    Given:   level 0 (1, C, H, W), level 1 (1, C, H/2, W/2), …; boxes (P, 4)
    Result:  map (1, C, H + H/2 + …, W), zeros at the right of all but the widest -> (P, C, rows, columns)
    """

    levels: Tensor
    """(L, 4) of each level: pixels of it for one of the picture, height, width, its first row in the map."""
    least: Tensor
    """(L - 1,): the side of a square box, in pixels of the picture, from which it belongs to the next level."""

    picture: Tensor
    """(2,): width and height of the picture in pixels."""

    def __init__(self, pool: MultiScaleRoIAlign, features: Mapping[str, Tensor], height: int, width: int) -> None:
        """`pool` is torchvision's; `features` are those of a picture of `height` times `width` pixels, as shown to it.

        Raises ConfigurationError where the number of samples depends on the box.
        """
        super().__init__()
        if type(pool).__name__ != "MultiScaleRoIAlign" or pool.sampling_ratio <= 0:
            raise ConfigurationError(
                "the features of boxes are pooled by torchvision's MultiScaleRoIAlign with a sampling_ratio, and this "
                f"model has {pool}",
                code="B0251",
                hint="a fixed number of samples, as in `MultiScaleRoIAlign(names, 7, sampling_ratio=2)`",
                key="detection.kind",
            )
        self.names = tuple(name for name in features if name in pool.featmap_names)
        self._samples, self._out = pool.sampling_ratio, tuple(map(int, pool.output_size))
        scales, levels = _scales(pool, features, height, width)
        shapes = [features[name].shape[-2:] for name in self.names]
        rows = [sum(int(shape[0]) for shape in shapes[:index]) for index in range(len(shapes))]
        table = [[scale, *shape, row] for scale, shape, row in zip(scales, shapes, rows, strict=True)]
        self.register_buffer("levels", torch.tensor(table, dtype=torch.float32))
        self.register_buffer("least", _borders(levels, len(shapes)))
        self.register_buffer("picture", torch.tensor([width, height], dtype=torch.float32))
        self._height, self._width = sum(int(h) for h, _ in shapes), max(int(w) for _, w in shapes)

    def forward(self, boxes: Tensor, *features: Tensor) -> Tensor:
        """Centres and sizes (P, 4) as shares, and maps (1, C, h, w) by the names, to (P, C, rows, columns)."""
        widest = [functional.pad(level, (0, self._width - level.shape[-1])) for level in features]
        center, size = boxes[:, :2] * self.picture, boxes[:, 2:] * self.picture
        side = torch.sqrt(size[:, 0] * size[:, 1])
        level = (side[:, None] >= self.least).to(torch.int64).sum(dim=1)
        scale, heights, widths, first = self.levels[level].unbind(dim=1)
        low = (center - size * 0.5) * scale[:, None]
        size = (size * scale[:, None]).clamp(min=1.0)
        rows = self._places(low[:, 1], size[:, 1], heights, first, 0, self._height)
        columns = self._places(low[:, 0], size[:, 0], widths, torch.zeros_like(first), 1, self._width)
        return self._sampled(torch.cat(widest, dim=2), rows, columns)

    def _places(self, low: Tensor, size: Tensor, extent: Tensor, first: Tensor, axis: int, length: int) -> Tensor:
        """Where (P, n) samples lie on an axis of the map, from -1 to 1; outside of a level is outside of the map.

        As in torchvision a sample up to a pixel outside is at the edge (roi_align_common.h, pre_calc_for_bilinear).
        """
        count = self._out[axis] * self._samples
        steps = (torch.arange(count, dtype=torch.float32) + 0.5) / count
        places = low[:, None] + steps * size[:, None]
        inside = (places >= -1.0) & (places <= extent[:, None])
        within = torch.minimum(places.clamp(min=0.0), extent[:, None] - 1.0) + first[:, None]
        return torch.where(inside, within * (2.0 / max(length - 1, 1)) - 1.0, -9.0)

    def _sampled(self, features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        count, height, width = rows.shape[0], rows.shape[1], columns.shape[1]
        grid = torch.stack(
            [columns[:, None].expand(count, height, width), rows[:, :, None].expand(count, height, width)], dim=-1
        )
        grid = grid.reshape(1, count * height, width, 2)
        samples = functional.grid_sample(features, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
        pooled = functional.avg_pool2d(samples, self._samples)
        return pooled.reshape(features.shape[1], count, *self._out).transpose(0, 1)


def _scales(
    pool: MultiScaleRoIAlign, features: Mapping[str, Tensor], height: int, width: int
) -> tuple[Sequence[float], LevelMapper]:
    """Torchvision's own scales and its assignment of levels, which it finds when it first runs."""
    tried = copy.copy(pool)
    box = torch.tensor([[0.0, 0.0, float(width), float(height)]])
    tried(dict(features), [box], [(height, width)])
    return tried.scales, tried.map_levels


def _borders(levels: LevelMapper, count: int) -> Tensor:
    """From which side on a box is one level up (torchvision.ops.poolers.LevelMapper, solved for the side)."""
    exponents = [levels.k_min + up - levels.lvl0 - levels.eps for up in range(1, count)]
    return torch.tensor([levels.s0 * 2.0**exponent for exponent in exponents])
