"""How much convolutions and pools pad each spatial dimension, before and after."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops.table import Ints

Pads = tuple[tuple[int, int], ...]


def spatial_pads(
    pad_type: str, pad: Ints, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int],
    dilations: Sequence[int],
) -> Pads:  # fmt: skip
    """(before, after) for each spatial dimension of the given sizes.

    "same" keeps ceil(size / stride) and puts the odd element after, "same_lower" before; "custom" takes `pad`.
    """
    if pad_type == "valid":
        return ((0, 0),) * len(sizes)
    if pad_type == "custom":
        flat = pad or (0,) * (2 * len(sizes))
        return tuple((flat[2 * i], flat[2 * i + 1]) for i in range(len(sizes)))
    if pad_type not in ("same", "same_lower"):
        raise ValueError(f"pad_type {pad_type!r} is none of valid, custom, same, same_lower")
    pads = []
    for size, extent, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (extent - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        pads.append((small, large) if pad_type == "same" else (large, small))
    return tuple(pads)


def is_symmetric(pads: Pads) -> bool:
    """Whether every dimension is padded equally on both sides."""
    return all(before == after for before, after in pads)


def pad_spatial(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """Pad (or, where negative, crop) the last dimensions of x with a constant."""
    if not any(before or after for before, after in pads):
        return x
    return functional.pad(x, [amount for each in reversed(pads) for amount in each], value=value)
