"""How NeuralNetwork's convolutions and pools say what to pad, and what that comes to for an input."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coreml_runtime.ops.padding import same_total

Pairs = tuple[tuple[int, int], ...]
"""(before, after) for each spatial dimension, in the order of the tensor."""


@dataclass(frozen=True, kw_only=True)
class Padding:
    """The window of a convolution or pool; `pairs` counts where `same` is false."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    same: bool
    heavy_first: bool
    pairs: Pairs


def border_pairs(amounts: Any) -> Pairs:
    """BorderAmounts, which lists [H, W] or nothing."""
    borders = tuple((border.startEdgeSize, border.endEdgeSize) for border in amounts.borderAmounts)
    return borders or ((0, 0), (0, 0))


def resolve(p: Padding, spatial: Sequence[int]) -> Pairs:
    """The padding for an input of this spatial size (NeuralNetwork.proto, SamePadding)."""
    if not p.same:
        return p.pairs
    pairs = []
    for size, kernel, stride, dilation in zip(spatial, p.kernel, p.strides, p.dilations, strict=True):
        total = same_total(size, stride, (kernel - 1) * dilation + 1)
        small, large = total // 2, total - total // 2
        pairs.append((large, small) if p.heavy_first else (small, large))
    return tuple(pairs)


def torch_order(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """torch.nn.functional.pad lists the last dimension first."""
    return [amount for pair in reversed(pairs) for amount in pair]
