"""A small YOLO-style detector: a backbone, and at each of three strides a map of distances and classes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from builder.model.sources.seeded import initialise_seeded

BINS = 8
"""Into how many steps the distance to each side of a box is divided."""


def _block(channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False), nn.BatchNorm2d(out_channels), nn.SiLU()
    )


class SmallYolo(nn.Module):
    """Pictures (N, 3, H, W) to maps (N, 4 * BINS + classes, H/s, W/s) for strides s of 8, 16 and 32."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(_block(3, width, 2), _block(width, width, 2), _block(width, width, 2))
        self.stages = nn.ModuleList([_block(width, width, 1), _block(width, width, 2), _block(width, width, 2)])
        self.heads = nn.ModuleList(nn.Conv2d(width, 4 * BINS + classes, 1) for _ in range(3))

    def forward(self, picture: Tensor) -> list[Tensor]:
        """The maps, the finest first."""
        x, maps = self.stem(picture), []
        for stage, head in zip(self.stages, self.heads, strict=True):
            x = stage(x)
            maps.append(head(x))
        return maps


def small_yolo(classes: int = 3, width: int = 32, seed: int = 0) -> nn.Module:
    """Untrained, with seeded weights whose scores spread; load trained ones with `source: checkpoint`."""
    network = SmallYolo(classes, width)
    pictures = np.random.default_rng(seed).standard_normal((2, 3, 64, 64))
    initialise_seeded(network, (torch.from_numpy(pictures).to(torch.float32),), seed)
    return network.eval()
