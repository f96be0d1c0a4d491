"""Models with one planted fault each; recipes name these factories."""

from __future__ import annotations

import torch
from torch import nn


def sound() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def scaled(factor: float, layer: int = 2) -> nn.Module:
    """The same function, with one convolution larger by `factor` and the next one smaller."""
    model = sound()
    with torch.no_grad():
        model[layer].weight *= factor
        model[layer].bias *= factor
        model[layer + 2].weight /= factor
    return model


def overflow() -> nn.Module:
    return scaled(1e6)


def overflow_first() -> nn.Module:
    return scaled(1e6, layer=0)


def denormal() -> nn.Module:
    return scaled(1e-6)


def denormal_first() -> nn.Module:
    return scaled(1e-6, layer=0)


class Squared(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x * 1000.0) ** 2).mean(-1, keepdim=True).sqrt() / 1000.0 + x


def square() -> nn.Module:
    """A norm whose squares overflow although its inputs and its result do not."""
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), Squared(), nn.Linear(32, 10))


class Shifted(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).roll(1, 1)


def shift(layer: nn.Module) -> nn.Module:
    return Shifted(layer)


def halve(layer: nn.Module) -> nn.Module:
    return nn.Sequential(layer, nn.Hardtanh(-0.01, 0.01))
