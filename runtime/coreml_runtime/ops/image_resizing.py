"""MIL's image resizing on the last two dimensions: upsample, resize, crop and crop_resize."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops.context import Context, is_real
from coreml_runtime.ops.table import Ints, exact, table


def _spread(first: Tensor, extent: Tensor, count: int, spacing: Tensor) -> Tensor:
    return first.unsqueeze(-1) + spacing.unsqueeze(-1) * torch.arange(count, dtype=extent.dtype)


def _strict_align_corners(extent: Tensor, count: int) -> Tensor:
    return _spread(torch.zeros_like(extent), extent, count, (extent - 1) / max(count - 1, 1))


def _align_corners(extent: Tensor, count: int) -> Tensor:
    return _strict_align_corners(extent, count) if count > 1 else ((extent - 1) / 2).unsqueeze(-1)


def _default(extent: Tensor, count: int) -> Tensor:
    return _spread(torch.zeros_like(extent), extent, count, extent / count)


def _offset_corners(extent: Tensor, count: int) -> Tensor:
    delta = (extent - 1).clamp(min=1) / count
    return _spread(0.5 * delta, extent, count, delta)


def _unalign_corners(extent: Tensor, count: int) -> Tensor:
    spacing = extent / count
    return _spread(0.5 * spacing - 0.5, extent, count, spacing)


# Where `count` samples lie on an axis of `extent` pixels (any shape), relative to its first pixel: (*extent, count).
# The formulas are those of the notes of `resize_bilinear` in coremltools' iOS15 image_resizing.py.
GRIDS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "STRICT_ALIGN_CORNERS": _strict_align_corners,
    "ALIGN_CORNERS": _align_corners,
    "DEFAULT": _default,
    "OFFSET_CORNERS": _offset_corners,
    "UNALIGN_CORNERS": _unalign_corners,
}


def resize_axis(x: Tensor, axis: int, count: int, sampling_mode: str, nearest: bool = False) -> Tensor:
    """Resample one axis at the grid of `sampling_mode`, linearly or to the nearest pixel (halves go up)."""
    size = x.shape[axis]
    grid = GRIDS[sampling_mode](torch.tensor(float(size)), count).clamp(0, size - 1)
    if nearest:
        return x.index_select(axis, (grid + 0.5).floor().long().clamp(max=size - 1))
    lower = grid.floor().long()
    shape = [1] * x.dim()
    shape[axis] = count
    weight = (grid - lower).to(x.dtype).view(shape)
    left = x.index_select(axis, lower)
    return torch.lerp(left, x.index_select(axis, (lower + 1).clamp(max=size - 1)), weight.expand_as(left))


def _bilinear(x: Tensor, height: int, width: int, sampling_mode: str) -> Tensor:
    """Both spatial axes; torch's kernel where its grid is the same."""
    if sampling_mode in ("STRICT_ALIGN_CORNERS", "UNALIGN_CORNERS") and min(height, width) > 0:
        planes = x.reshape(1, -1, *x.shape[-2:])
        corners = sampling_mode == "STRICT_ALIGN_CORNERS"
        result = functional.interpolate(planes, size=(height, width), mode="bilinear", align_corners=corners)
        return result.reshape(*x.shape[:-2], height, width)
    return resize_axis(resize_axis(x, -2, height, sampling_mode), -1, width, sampling_mode)


def _scaled(size: int, factor: float) -> int:
    """floor(size * factor) in single precision, as MIL's own type inference computes it."""
    return int(numpy.floor(numpy.float32(factor) * numpy.float32(size)))


@exact
def upsample_nearest_neighbor(*, x: Tensor, scale_factor_height: float = 1, scale_factor_width: float = 1) -> Tensor:
    """Pixel floor(i * in / out) of x (*D, H, W)."""
    height, width = _scaled(x.shape[-2], scale_factor_height), _scaled(x.shape[-1], scale_factor_width)
    return resize_nearest_neighbor(x=x, target_size_height=height, target_size_width=width)


@exact
def resize_nearest_neighbor(*, x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    """Pixel floor(i * in / out) of x (*D, H, W): (*D, target height, target width)."""
    for axis, count in ((-2, target_size_height), (-1, target_size_width)):
        if count != x.shape[axis]:
            x = x.index_select(axis, torch.arange(count) * x.shape[axis] // max(count, 1))
    return x


def upsample_bilinear(
    *,
    x: Tensor,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """Scale x (*D, H, W); the grid is that of the output's size. Half pixel centres default to not align_corners."""
    if half_pixel_centers is None:
        half_pixel_centers = not align_corners
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half_pixel_centers else "DEFAULT"
    height, width = _scaled(x.shape[-2], scale_factor_height), _scaled(x.shape[-1], scale_factor_width)
    return _bilinear(x, height, width, mode)


def resize_bilinear(
    *, x: Tensor, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Tensor:
    """Resize x (*D, H, W) to (*D, target height, target width)."""
    return _bilinear(x, target_size_height, target_size_width, sampling_mode)


def resize(
    *,
    x: Tensor,
    shape: Ints,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """The last `resized_dims` dimensions take the last sizes of `shape`; 0 keeps a size (iOS17)."""
    nearest = interpolation_mode == "NEAREST_NEIGHBOR"
    result = x if nearest or x.is_floating_point() else x.float()
    sizes = shape[len(shape) - resized_dims :]
    if resized_dims == 2 and not nearest:
        height, width = (size or x.shape[axis] for size, axis in zip(sizes, (-2, -1), strict=True))
        return _bilinear(result, height, width, sampling_mode)
    for axis, size in zip(range(-resized_dims, 0), sizes, strict=True):
        result = resize_axis(result, axis, size or x.shape[axis], sampling_mode, nearest)
    return result


@exact
def crop(*, x: Tensor, crop_height: Ints, crop_width: Ints) -> Tensor:
    """Cut x (*D, H, W): without the given numbers of rows (top, bottom) and columns (left, right)."""
    height, width = x.shape[-2:]
    return x[..., crop_height[0] : height - crop_height[1], crop_width[0] : width - crop_width[1]]


def crop_resize(
    *,
    x: Tensor,
    roi: Tensor | None = None,
    boxes: Tensor | None = None,
    box_indices: Tensor | None = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
    context: Context,
) -> Tensor:
    """Bilinear crops of x (B, C, H, W).

    iOS15, iOS16: roi (N, 1, 4, 1, 1), every box on every image, gives (N, B, C, h, w); roi (N, 1, 5, 1, 1), whose
    first number is the image, gives (N, 1, C, h, w). iOS17: boxes (N, 4) and box_indices (N) give (N, C, h, w).
    Since iOS16 a sample outside the image is `pad_value`; before, the border is repeated.
    """
    if roi is not None:
        boxes = roi.flatten(1)
        if boxes.shape[1] == 5:
            box_indices, boxes = boxes[:, 0], boxes[:, 1:]
    if boxes is None:
        raise ValueError("crop_resize needs roi or boxes")
    count, images = boxes.shape[0], x.shape[0]
    every = roi is not None and box_indices is None
    if every:
        boxes, index = boxes.repeat_interleave(images, 0), torch.arange(images).repeat(count)
    else:
        index = torch.arange(count) if box_indices is None else box_indices.long()
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < images:
        raise ValueError(f"crop_resize: box indices must lie in [0, {images})")
    edges = _box_edges(boxes.float() * spatial_scale, box_coordinate_mode)
    rows = _box_grid(edges[0], edges[2], x.shape[2], target_height, normalized_coordinates, sampling_mode)
    columns = _box_grid(edges[1], edges[3], x.shape[3], target_width, normalized_coordinates, sampling_mode)
    crops = _sample(x, index, rows, columns, pad_value if context.since("ios16") else None)
    if roi is None:
        return crops
    return crops.reshape(count, images if every else 1, *crops.shape[1:])


def _box_edges(boxes: Tensor, mode: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes (N, 4) in any coordinate mode as top, left, bottom, right."""
    a, b, c, d = boxes.unbind(1)
    if mode.endswith("WIDTH_FIRST"):
        a, b, c, d = b, a, d, c
    if mode.startswith("CENTER_SIZE"):
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return a, b, c, d


def _box_grid(start: Tensor, end: Tensor, size: int, count: int, normalized: bool, mode: str) -> Tensor:
    """Sample positions (N, count) in pixels of an axis of `size`; a box from `start` to `end` has both pixels in it.

    An inverted box runs backwards. With UNALIGN_CORNERS the one case that Apple's tests settle (iOS15, an inverted box
    beyond the image) gives the grid of the whole axis, and so do we.
    """
    if normalized:
        start, end = start * (size - 1), end * (size - 1)
    backwards = end < start
    grid = GRIDS[mode]((end - start).abs() + 1, count)
    grid = start.unsqueeze(1) + torch.where(backwards.unsqueeze(1), -grid, grid)
    if mode == "UNALIGN_CORNERS" and (not is_real(backwards) or bool(backwards.any())):
        whole = _unalign_corners(torch.tensor(float(size)), count)
        grid = torch.where(backwards.unsqueeze(1), whole, grid)
    return grid


def _sample(x: Tensor, index: Tensor, rows: Tensor, columns: Tensor, pad_value: float | None) -> Tensor:
    """x[index] (N, C, H, W) bilinearly at rows (N, h) x columns (N, w); outside is `pad_value`, or the border."""
    height, width = x.shape[2:]
    y, x0 = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    top, left = y.floor().long(), x0.floor().long()
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, across = (y - top).to(x.dtype)[:, :, None, None], (x0 - left).to(x.dtype)[:, None, :, None]

    def pixels(row: Tensor, column: Tensor) -> Tensor:
        return x[index[:, None, None], :, row[:, :, None], column[:, None, :]]

    upper = pixels(top, left) * (1 - across) + pixels(top, right) * across
    lower = pixels(bottom, left) * (1 - across) + pixels(bottom, right) * across
    result = upper * (1 - down) + lower * down
    if pad_value is not None:
        tolerance = 1e-4  # a normalised 1.0 may land a rounding error beyond the last pixel
        outside_y = (rows < -tolerance) | (rows > height - 1 + tolerance)
        outside_x = (columns < -tolerance) | (columns > width - 1 + tolerance)
        result = result.masked_fill((outside_y[:, :, None] | outside_x[:, None, :]).unsqueeze(-1), pad_value)
    return result.permute(0, 3, 1, 2)


OPS = table(
    upsample_nearest_neighbor,
    resize_nearest_neighbor,
    upsample_bilinear,
    resize_bilinear,
    resize,
    crop,
    crop_resize,
)
