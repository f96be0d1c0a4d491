"""LayerNorm and RMSNorm as means, differences and products; over channels without a transposition."""

from __future__ import annotations

import torch


class ExplicitLayerNorm(torch.nn.Module):
    """`(x - mean) / sqrt(var + eps) * weight + bias` (arXiv:1607.06450), over the last dimensions or over dimension 1.

    The variance is the mean of squares: in half precision it overflows where activations differ by more than 255
    from their mean.
    """

    weight: torch.nn.Parameter | None
    bias: torch.nn.Parameter | None

    def __init__(self, old: torch.nn.LayerNorm, *, channels_first: bool) -> None:
        super().__init__()
        self.normalized_shape, self.eps = old.normalized_shape, old.eps
        self.weight, self.bias = old.weight, old.bias
        self._channels_first = channels_first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., *normalized_shape), or (N, C, H, W) where channels come first; same shape out."""
        dims = (1,) if self._channels_first else tuple(range(-len(self.normalized_shape), 0))
        centred = x - x.mean(dims, keepdim=True)
        variance = (centred * centred).mean(dims, keepdim=True)
        normal = centred * torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            normal = normal * self._per_channel(self.weight)
        return normal if self.bias is None else normal + self._per_channel(self.bias)

    def _per_channel(self, values: torch.Tensor) -> torch.Tensor:
        return values.view(1, -1, 1, 1) if self._channels_first else values


class ExplicitRmsNorm(torch.nn.Module):
    """`x / sqrt(mean(x**2) + eps) * weight` (arXiv:1910.07467), over the last dimensions."""

    weight: torch.nn.Parameter | None

    def __init__(self, old: torch.nn.RMSNorm) -> None:
        super().__init__()
        self.normalized_shape, self.eps, self.weight = old.normalized_shape, old.eps, old.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., *normalized_shape), same shape out."""
        dims = tuple(range(-len(self.normalized_shape), 0))
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        normal = x * torch.rsqrt((x * x).mean(dims, keepdim=True) + eps)
        return normal if self.weight is None else normal * self.weight


def layer_norm(old: torch.nn.LayerNorm) -> torch.nn.Module:
    """Spell LayerNorm out; that over channels of ConvNeXt (LayerNorm2d) loses both of its transpositions.

    Given: `layer_norm(x)` over the last dimensions, or over channels as `permute`, `layer_norm`, `permute`.

    Result: `c = x - mean(x)`, then `c * rsqrt(mean(c * c) + eps) * weight + bias`, over the same dimensions in place.
    """
    return ExplicitLayerNorm(old, channels_first=_is_2d(old))


def rms_norm(old: torch.nn.RMSNorm) -> torch.nn.Module:
    """Spell RMSNorm out, which coremltools cannot convert from an exported program.

    Given: `rms_norm(x)` over the last dimensions.

    Result: `x * rsqrt(mean(x * x) + eps) * weight`.
    """
    return ExplicitRmsNorm(old)


def _is_2d(module: torch.nn.Module) -> bool:
    return any(base.__name__ == "LayerNorm2d" for base in type(module).__mro__)
