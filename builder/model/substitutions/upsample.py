"""Upsampling at one size of the input, as products with the matrices of its interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from builder.errors import ConversionError
from builder.model.substitutions.rewrite import Matches, copy_module, find, rewrite_in_place
from builder.model.substitutions.shapes import Run, Size, refuse_other_size, sizes_seen

_SPATIAL = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}
"""Over how many dimensions a mode interpolates; the nearest modes over all after (N, C)."""
_ALONG_ONE = {"linear": "linear", "bilinear": "linear", "trilinear": "linear", "bicubic": "bicubic"}
"""What a mode does along each of its dimensions."""


class MatrixUpsample(torch.nn.Module):
    """`x` times one matrix for each spatial dimension."""

    def __init__(self, matrices: Sequence[torch.Tensor], size: Size) -> None:
        super().__init__()
        self._count = len(matrices)
        for index, matrix in enumerate(matrices):
            self.register_buffer(f"matrix_{index}", matrix)
        self._size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, *size) to (N, C, *output size)."""
        refuse_other_size(x, self._size)
        for index in range(self._count):
            dim = index - self._count
            matrix = getattr(self, f"matrix_{index}").to(x.dtype)
            x = torch.matmul(x.transpose(dim, -1), matrix).transpose(dim, -1)
        return x


def upsample_to_matmul(
    root: torch.nn.Module, matches: Matches, patterns: Sequence[str] | None, run: Run
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Compute torch.nn.Upsample by matrix products, at the size that the examples have: the result takes that only.

    Bicubic, trilinear and nearest-exact upsampling, which coremltools cannot convert, become convertible.

    Given: `upsample(x)` of any mode, for x of (N, C, H, W) (or of 1 or 3 spatial dimensions).

    Result: `A_h x A_w^T`, where A_h and A_w hold the weights of the interpolation along each dimension.
    """
    new = copy_module(root)
    places = find(new, matches, patterns)
    if not places:
        return new, ()
    shapes = sizes_seen(new, places, run, spatial=lambda _: 5)
    return rewrite_in_place(new, matches, patterns, lambda old: _by_matrices(old, shapes[id(old)]))


def _by_matrices(old: Any, shape: Size) -> torch.nn.Module:
    spatial = shape[2:]
    expected = _SPATIAL.get(old.mode, len(spatial))
    if len(spatial) != expected:
        raise ConversionError(
            f"upsampling of mode {old.mode} takes {expected} spatial dimensions, not {len(spatial)}", code="B0407"
        )
    sizes = _per_dimension(old.size, len(spatial))
    factors = _per_dimension(old.scale_factor, len(spatial))
    matrices = [_matrix(old, n, size, factor) for n, size, factor in zip(spatial, sizes, factors, strict=True)]
    return MatrixUpsample(matrices, spatial)


def _per_dimension(given: object, count: int) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, tuple | list) else (given,) * count


def _matrix(old: Any, size: int, output: int | None, factor: float | None) -> torch.Tensor:
    """The weights (size, output size) along one dimension: what the unit vectors become."""
    mode = _ALONG_ONE.get(old.mode, old.mode)
    units = torch.eye(size)[:, None, :]
    options = {
        "mode": mode,
        "align_corners": old.align_corners,
        "recompute_scale_factor": old.recompute_scale_factor,
    }
    if mode != "bicubic":
        return functional.interpolate(units, size=output, scale_factor=factor, **options)[:, 0]
    # bicubic takes two dimensions: the second is one row, and stays
    sizes, factors = (None if output is None else (1, output)), (None if factor is None else (1.0, factor))
    return functional.interpolate(units[:, :, None, :], size=sizes, scale_factor=factors, **options)[:, 0, 0]
