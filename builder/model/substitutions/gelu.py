"""GELU by its approximations, which are cheaper than the error function."""

from __future__ import annotations

import torch


class GeluBySigmoid(torch.nn.Module):
    """`x * sigmoid(1.702 x)` (arXiv:1606.08415, section 2)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape, same shape out."""
        return x * torch.sigmoid(1.702 * x)


def is_exact_gelu(module: torch.nn.Module) -> bool:
    """Whether a GELU is computed by the error function (transformers' GELUActivation always is)."""
    return getattr(module, "approximate", "none") == "none"


def gelu_to_tanh(_: torch.nn.Module) -> torch.nn.Module:
    """Replace exact GELU by its tanh approximation, within 5e-4 of it; one that is approximate already stays.

    Given: `gelu(x) = x * (1 + erf(x / sqrt 2)) / 2`.

    Result: `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x**3))) / 2`.
    """
    return torch.nn.GELU(approximate="tanh")


def gelu_to_sigmoid(_: torch.nn.Module) -> torch.nn.Module:
    """Replace GELU, exact or by tanh, by its sigmoid approximation ("quick GELU"), within 0.021 of it.

    Given: `gelu(x)`.

    Result: `x * sigmoid(1.702 x)`.
    """
    return GeluBySigmoid()
