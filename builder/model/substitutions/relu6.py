"""ReLU6 as operators that every Core ML version runs well."""

from __future__ import annotations

import torch


class Clamp(torch.nn.Module):
    """`min(max(x, 0), 6)` as one clamp."""

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self._inplace = inplace

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape, same shape out."""
        return x.clamp_(0, 6) if self._inplace else x.clamp(0, 6)


def relu6_to_relu(old: torch.nn.ReLU6) -> torch.nn.Module:
    """Replace ReLU6 by ReLU: runs on every Core ML version, and no longer clips at 6.

    Given: `relu6(x) = min(max(x, 0), 6)`.

    Result: `relu(x) = max(x, 0)`, the same below 6.
    """
    return torch.nn.ReLU(inplace=old.inplace)


def relu6_to_clamp(old: torch.nn.ReLU6) -> torch.nn.Module:
    """Replace ReLU6 by a clamp: one element-wise operator, with the same values.

    Given: `relu6(x) = min(max(x, 0), 6)`.

    Result: `clamp(x, 0, 6)`.
    """
    return Clamp(inplace=old.inplace)
