"""MIL's resampling of images at arbitrary coordinates: resample and affine."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops.table import table


def affine(
    *,
    x: Tensor,
    transform_matrix: Tensor,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """Sample x (B, C, H, W) at (a0 x + a1 y + a2, b0 x + b1 y + b2) of each output pixel: (B, C, height, width).

    transform_matrix (B or 1, 6) is [a0, a1, a2, b0, b1, b2].
    """
    matrix = transform_matrix.reshape(-1, 2, 3).expand(x.shape[0], 2, 3).to(x.dtype)
    normalized = coordinates_mode.lower() == "normalized_minus_one_to_one"
    if normalized:
        grid = functional.affine_grid(matrix, [x.shape[0], 1, output_height, output_width], align_corners=align_corners)
    else:
        rows, columns = torch.meshgrid(torch.arange(output_height), torch.arange(output_width), indexing="ij")
        if coordinates_mode.lower() == "normalized_zero_to_one":
            rows, columns = rows / max(output_height - 1, 1), columns / max(output_width - 1, 1)
        points = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).to(x.dtype)
        grid = torch.einsum("hwk,bck->bhwc", points, matrix)
    return resample(
        x=x,
        coordinates=grid,
        sampling_mode=sampling_mode.lower(),
        padding_mode=padding_mode.lower(),
        padding_value=padding_value,
        coordinates_mode=coordinates_mode.lower(),
        align_corners=align_corners,
    )


def resample(
    *,
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """Sample x (B, C, H, W) at coordinates (B, h, w, 2), whose last axis is (x, y): (B, C, h, w)."""
    grid = coordinates.to(x.dtype)
    simple = padding_mode == "border" or (padding_mode == "constant" and padding_value == 0)
    if sampling_mode == "bilinear" and coordinates_mode == "normalized_minus_one_to_one" and simple:
        padding = "border" if padding_mode == "border" else "zeros"
        return functional.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=align_corners)
    height, width = x.shape[2:]
    columns = _pixels(grid[..., 0], width, coordinates_mode, align_corners)
    rows = _pixels(grid[..., 1], height, coordinates_mode, align_corners)
    if sampling_mode == "nearest":  # halves go up
        return _fetch(x, (rows + 0.5).floor().long(), (columns + 0.5).floor().long(), padding_mode, padding_value)
    top, left = rows.floor(), columns.floor()
    down, across = (rows - top).unsqueeze(1), (columns - left).unsqueeze(1)
    row, column = top.long(), left.long()

    def at(y: Tensor, x_: Tensor) -> Tensor:
        return _fetch(x, y, x_, padding_mode, padding_value)

    upper = torch.lerp(at(row, column), at(row, column + 1), across)
    lower = torch.lerp(at(row + 1, column), at(row + 1, column + 1), across)
    return torch.lerp(upper, lower, down)


def _pixels(coordinate: Tensor, size: int, mode: str, align_corners: bool) -> Tensor:
    """Coordinates in units of pixels, 0 being the centre of the first one."""
    if mode == "unnormalized":
        return coordinate
    share = (coordinate + 1) / 2 if mode == "normalized_minus_one_to_one" else coordinate
    return share * (size - 1) if align_corners else share * size - 0.5


def _fetch(x: Tensor, rows: Tensor, columns: Tensor, padding_mode: str, padding_value: float) -> Tensor:
    """The pixels (B, C, h, w) at whole rows and columns (B, h, w), with the padding outside."""
    height, width = x.shape[2:]
    y, column = _inside(rows, height, padding_mode), _inside(columns, width, padding_mode)
    flat = (y * width + column).flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
    pixels = x.flatten(2).gather(2, flat).reshape(*x.shape[:2], *rows.shape[1:])
    if padding_mode != "constant":
        return pixels
    outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
    return pixels.masked_fill(outside.unsqueeze(1), padding_value)


def _inside(index: Tensor, size: int, padding_mode: str) -> Tensor:
    """Whole positions mapped into [0, size): reflection leaves the border pixel out, symmetric repeats it."""
    if padding_mode == "reflection" and size > 1:
        period = 2 * (size - 1)
        index = index.remainder(period)
        return torch.minimum(index, period - index)
    if padding_mode == "symmetric":
        index = index.remainder(2 * size)
        return torch.minimum(index, 2 * size - 1 - index)
    return index.clamp(0, size - 1)


OPS = table(affine, resample)
