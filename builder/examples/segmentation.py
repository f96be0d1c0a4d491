"""Segmentation with a picture as its result: how likely each pixel belongs to one class."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from builder.model.sources.seeded import initialise_seeded
from builder.model.torchvision_import import import_torchvision


class ClassMatte(nn.Module):
    """Takes pictures as `network` does and returns the probability of one class, (1, 1, H, W) from 0 to 1."""

    def __init__(self, network: nn.Module, index: int) -> None:
        super().__init__()
        self.network = network
        self.index = index

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Softmax over the classes of `out`, as torchvision's segmentation models name it."""
        scores: torch.Tensor = self.network(x)["out"]
        return scores.softmax(1)[:, self.index : self.index + 1]


def person_matte(name: str = "lraspp_mobilenet_v3_large", classes: int = 2, index: int = 1, seed: int = 0) -> nn.Module:
    """A segmentation model of torchvision, without pretrained weights, that gives the matte of one class.

    Load trained weights with `source: checkpoint` and this factory: torchvision's own have 21 classes, a person is 15.
    """
    pictures = np.random.default_rng(seed).standard_normal((2, 3, 64, 64))
    network = import_torchvision().models.get_model(name, weights=None, weights_backbone=None, num_classes=classes)
    initialise_seeded(network, (torch.from_numpy(pictures).to(torch.float32),), seed)
    return ClassMatte(network, index)
