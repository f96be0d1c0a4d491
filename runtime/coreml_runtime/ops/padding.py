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
        total = same_total(size, stride, (extent - 1) * dilation + 1)
        small, large = total // 2, total - total // 2
        pads.append((small, large) if pad_type == "same" else (large, small))
    return tuple(pads)


def same_total(size: int, stride: int, reach: int) -> int:
    """What "same" pads in both places together: (ceil(size / stride) - 1) * stride + reach - size, and at least 0.

    In a trace `size` may be a symbol; where a window reaches as far as it moves, nothing is asked of it.
    """
    total = -size % stride + reach - stride
    return total if reach >= stride else max(total, 0)


def ceil_after(size: int, before: int, after: int, extent: int, stride: int) -> int:
    """`after` and what ceil mode adds to it: less, where the last window would start in the padding behind the input.

    It then is dropped. In a trace `size` may be a symbol, of which nothing is asked where no window can be dropped.
    """
    short = -(size + before + after - extent) % stride
    drops = after + stride > extent and after + short >= extent
    return after + short - (stride if drops else 0)


def is_symmetric(pads: Pads) -> bool:
    """Whether every dimension is padded equally on both sides; of a size that a trace leaves open nobody knows."""
    return all(type(before) is int and type(after) is int and before == after for before, after in pads)


def pad_spatial(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """Pad (or, where negative, crop) the last dimensions of x with a constant."""
    if all(type(amount) is int and amount == 0 for each in pads for amount in each):
        return x
    return functional.pad(x, [amount for each in reversed(pads) for amount in each], value=value)
