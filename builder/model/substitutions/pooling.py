"""Adaptive pooling at one size of the input, as pooling with fixed windows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from builder.errors import ConversionError
from builder.model.substitutions.rewrite import Matches, copy_module, find, rewrite_in_place
from builder.model.substitutions.shapes import Run, Size, refuse_other_size, sizes_seen

AVERAGE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
MAXIMUM = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
_FIXED_AVERAGE: tuple[Any, ...] = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_FIXED_MAXIMUM: tuple[Any, ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
Windows = tuple[tuple[int, int], ...]
"""Start and end of each window along one dimension."""


class FixedPool(nn.Module):
    """A pooling layer that refuses other sizes than the one its windows were chosen for."""

    def __init__(self, pool: nn.Module, size: Size) -> None:
        super().__init__()
        self.pool = pool
        self._size = size

    def forward(self, x: torch.Tensor) -> Any:
        """(N, C, *size) to (N, C, *output_size)."""
        refuse_other_size(x, self._size)
        return self.pool(x)


class SlicedPool(nn.Module):
    """Average or maximum over windows of unequal size, one dimension after the other."""

    def __init__(self, windows: Sequence[Windows], *, average: bool) -> None:
        super().__init__()
        self._windows = tuple(windows)
        self._average = average

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, *size) to (N, C, *output_size)."""
        for index, windows in enumerate(self._windows):
            dim = index - len(self._windows)
            parts = [x.narrow(dim, start, end - start) for start, end in windows]
            x = torch.cat([self._reduce(part, dim) for part in parts], dim)
        return x

    def _reduce(self, part: torch.Tensor, dim: int) -> torch.Tensor:
        return part.mean(dim, keepdim=True) if self._average else part.amax(dim, keepdim=True)


def adaptive_to_fixed_pooling(
    root: nn.Module, matches: Matches, patterns: Sequence[str] | None, run: Run
) -> tuple[nn.Module, tuple[str, ...]]:
    """Fix adaptive pooling at the size that the examples have: the result takes that size only.

    Given: `adaptive_avg_pool2d(x, (1, 1))`, or max, of 1, 2 or 3 dimensions, and x of 7 x 7.

    Result: `avg_pool2d(x, kernel_size=7, stride=7)`; where windows differ in size (7 to 2), slices that are averaged
    and joined.
    """
    new = copy_module(root)
    places = find(new, matches, patterns)
    if not places:
        return new, ()
    sizes = sizes_seen(new, places, run, spatial=_dimensions)
    return rewrite_in_place(new, matches, patterns, lambda old: _fixed(old, sizes[id(old)]))


def windows_of(size: int, output: int) -> Windows:
    """Return the windows of adaptive pooling along one dimension (torch's AdaptiveAveragePooling.cpp)."""
    return tuple((i * size // output, -((-(i + 1) * size) // output)) for i in range(output))


def _dimensions(old: object) -> int:
    """1, 2 or 3: over how many dimensions a layer pools."""
    for kinds in (AVERAGE, MAXIMUM):
        for index, kind in enumerate(kinds):
            if isinstance(old, kind):
                return index + 1
    raise AssertionError(f"{type(old).__name__} is not an adaptive pooling")


def _fixed(old: Any, size: Size) -> nn.Module:
    output = old.output_size if isinstance(old.output_size, tuple | list) else (old.output_size,) * len(size)
    windows = [windows_of(s, s if o is None else o) for s, o in zip(size, output, strict=True)]
    average = isinstance(old, AVERAGE)
    indices = not average and old.return_indices
    steps = [_kernel_and_stride(w) for w in windows]
    if None in steps:
        if indices:
            raise ConversionError(
                f"max pooling of {size} to {tuple(output)} has windows of unequal size, and its indices are asked for",
                code="B0407",
                hint="choose an input size whose features divide evenly, or exclude the layer with `modules`",
            )
        return FixedPool(SlicedPool(windows, average=average), size)
    kernel, stride = (tuple(step[i] for step in steps if step is not None) for i in (0, 1))
    fixed = (_FIXED_AVERAGE if average else _FIXED_MAXIMUM)[len(size) - 1]
    return FixedPool(fixed(kernel, stride) if average else fixed(kernel, stride, return_indices=indices), size)


def _kernel_and_stride(windows: Windows) -> tuple[int, int] | None:
    """Return the one kernel and stride that give these windows, if there are any."""
    kernels = {end - start for start, end in windows}
    strides = {later[0] - earlier[0] for earlier, later in pairwise(windows)} or set(kernels)
    if len(kernels) > 1 or len(strides) > 1 or 0 in strides:
        return None
    return kernels.pop(), strides.pop()
