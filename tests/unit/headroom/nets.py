"""Two models of the same parts: one in which each part goes wrong in half precision, and one in which none does."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Faulty(nn.Module):
    """x (1, 8) within 300, mask (1, 8) of 0 and 1, ids (1, 4) below 50,000, steps (1, 5000) between 0 and 1."""

    def forward(self, x: Tensor, mask: Tensor, ids: Tensor, steps: Tensor) -> tuple[Tensor, ...]:
        """One output for each fault."""
        return (
            x * x * 10,
            x * 1e-8,
            torch.exp(x),
            (x * x).mean(-1) - x.mean(-1) ** 2,
            torch.log(torch.softmax(x, -1)),
            (1 - mask) * -1e9,
            ids.float() * 3 == 7,
            (x * 1e8).int(),
            torch.cumsum(steps, 1),
            1 / x,
        )


class Sound(nn.Module):
    """The same inputs."""

    def forward(self, x: Tensor, mask: Tensor, ids: Tensor, steps: Tensor) -> tuple[Tensor, ...]:
        """One output for each part."""
        small = x / 100
        centred = small - small.mean(-1, keepdim=True)
        return (
            small * small * 10,
            x * 1e-3,
            torch.exp(small),
            (centred * centred).mean(-1),
            torch.log(torch.softmax(small, -1)),
            (1 - mask) * -1e4,
            ids.clamp(max=2000).float() * 3 == 7,
            (x * 10).int(),
            torch.cumsum(steps[:, :100], 1),
            1 / (x.abs() + 0.01),
        )


def faulty() -> nn.Module:
    """For a recipe."""
    return Faulty()


def sound() -> nn.Module:
    """For a recipe."""
    return Sound()
