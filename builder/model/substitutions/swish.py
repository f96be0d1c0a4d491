"""Hardswish, Hardsigmoid and SiLU as products of simpler operators."""

from __future__ import annotations

import torch
from torch.nn import functional


class HardswishByRelu6(torch.nn.Module):
    """`x * relu6(x + 3) / 6` (arXiv:1905.02244, section 5.2)."""

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self._inplace = inplace

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape, same shape out."""
        gate = functional.relu6(x + 3) * (1 / 6)
        return x.mul_(gate) if self._inplace else x * gate


class HardsigmoidByRelu6(torch.nn.Module):
    """`relu6(x + 3) / 6`."""

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self._inplace = inplace

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape, same shape out."""
        if self._inplace:
            return x.add_(3).clamp_(0, 6).mul_(1 / 6)
        return functional.relu6(x + 3) * (1 / 6)


class SiluBySigmoid(torch.nn.Module):
    """`x * sigmoid(x)` (arXiv:1702.03118)."""

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self._inplace = inplace

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape, same shape out."""
        gate = torch.sigmoid(x)
        return x.mul_(gate) if self._inplace else x * gate


def hardswish(old: torch.nn.Hardswish) -> torch.nn.Module:
    """Spell Hardswish out by ReLU6.

    Given: `hardswish(x)`.

    Result: `x * relu6(x + 3) / 6`.
    """
    return HardswishByRelu6(inplace=old.inplace)


def hardsigmoid(old: torch.nn.Hardsigmoid) -> torch.nn.Module:
    """Spell Hardsigmoid out by ReLU6.

    Given: `hardsigmoid(x)`.

    Result: `relu6(x + 3) / 6`.
    """
    return HardsigmoidByRelu6(inplace=old.inplace)


def silu(old: torch.nn.SiLU) -> torch.nn.Module:
    """Spell SiLU (swish) out by a sigmoid.

    Given: `silu(x)`.

    Result: `x * sigmoid(x)`.
    """
    return SiluBySigmoid(inplace=old.inplace)
