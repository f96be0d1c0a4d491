"""Linear layers as 1x1 convolutions, which the Neural Engine prefers (Apple, "Deploying Transformers", 2022)."""

from __future__ import annotations

import torch
from torch.nn import functional


class LinearAsConv1x1(torch.nn.Module):
    """`y = x W^T + b` over the last dimension, computed as a convolution over (N, C, H, W)."""

    kernel: torch.nn.Parameter

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight
        self.kernel = torch.nn.Parameter(weight.detach()[:, :, None, None], requires_grad=weight.requires_grad)
        self.bias = linear.bias

    @property
    def weight(self) -> torch.Tensor:
        """The weight as Linear has it, (out_features, in_features): some models ask for its dtype."""
        return self.kernel[:, :, 0, 0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in_features) to (..., out_features), for any number of dimensions in front."""
        if x.dim() == 2:
            return self._convolve(x[:, :, None, None]).flatten(1)
        if x.dim() == 3:
            return self._convolve(x.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        if x.dim() == 4:
            return self._convolve(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        rows = x.reshape(-1, self.in_features, 1, 1)
        return self._convolve(rows).reshape(*x.shape[:-1], self.out_features)

    def _convolve(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.kernel, self.bias)


def linear_to_conv1x1(old: torch.nn.Linear) -> torch.nn.Module:
    """Compute a Linear layer as a 1x1 convolution with the same weights.

    Given: `linear(x)` for x of (N, C), (N, S, C), (N, H, W, C), or any (..., C).

    Result: `conv2d(x', W[:, :, None, None], b)` for x' of (N, C, 1, 1), (N, C, 1, S), (N, C, H, W), and back.
    """
    return LinearAsConv1x1(old)
