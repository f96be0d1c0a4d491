"""Adaptive pools that leave an axis as it is, written as means and maxima: captured as pools, they fix its size.

torch takes `None` among the sizes as that of the axis: `nn.AdaptiveAvgPool2d((1, None))` is the mean over the rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import SymInt, Tensor
from torch.nn import functional

Pool = Callable[..., Tensor | tuple[Tensor, Tensor]]


@contextmanager
def pools_of_whole_axes() -> Iterator[None]:
    """Within the block, adaptive pools whose sizes leave an axis are reductions of windows of the others."""
    reductions: dict[str, Callable[..., Tensor]] = {"avg": Tensor.mean, "max": Tensor.amax}
    originals = {}
    for dimensions, (name, reduce) in itertools.product((2, 3), reductions.items()):  # one axis cannot be left alone
        function = f"adaptive_{name}_pool{dimensions}d"
        originals[function] = getattr(functional, function)
        setattr(functional, function, _pool(originals[function], reduce, dimensions))
    try:
        yield
    finally:
        for function, original in originals.items():
            setattr(functional, function, original)


def _pool(original: Pool, reduce: Callable[..., Tensor], dimensions: int) -> Pool:
    def pool(input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        sizes = output_size if isinstance(output_size, Sequence) else [output_size] * dimensions
        axes = dict(zip(range(-dimensions, 0), sizes, strict=True))
        pooled = {axis: size for axis, size in axes.items() if not _is_whole(size, input.shape[axis])}
        can_be_cut = all(size == 1 or isinstance(input.shape[axis], int) for axis, size in pooled.items())
        if len(pooled) == dimensions or return_indices or not can_be_cut:
            return original(input, output_size, *([return_indices] if return_indices else []))
        for axis, size in pooled.items():
            input = _windows(input, reduce, axis, size)
        return input

    return pool


def _is_whole(size: object, length: object) -> bool:
    """Whether a size is that of the axis: None, or the same expression where sizes are symbols."""
    if isinstance(size, SymInt) and isinstance(length, SymInt):
        return bool(size.node.expr == length.node.expr)
    return size is None


def _windows(x: Tensor, reduce: Callable[..., Tensor], axis: int, size: int) -> Tensor:
    """Window i of n over an axis of length L reaches from floor(i L / n) to ceil((i + 1) L / n)."""
    if size == 1:
        return reduce(x, axis, keepdim=True)
    length = x.shape[axis]
    ends = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
    return torch.cat([reduce(x.narrow(axis, begin, end - begin), axis, keepdim=True) for begin, end in ends], axis)
