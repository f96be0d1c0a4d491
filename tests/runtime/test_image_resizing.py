"""Resizing and resampling against torch, the grids of MIL's documentation and values of Apple's tests."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops.image_resizing import (
    crop,
    crop_resize,
    resize,
    resize_bilinear,
    resize_nearest_neighbor,
    upsample_bilinear,
    upsample_nearest_neighbor,
)
from coreml_runtime.ops.resampling import affine, resample
from tests.runtime.contexts import make_context

# Single precision: a few roundings of values up to 44.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
RAMP = torch.tensor([0.0, 1.0]).view(1, 1, 2)
PICTURE = torch.arange(1.0, 17.0).view(1, 1, 4, 4)

# The table of examples in the documentation of resize_bilinear, for an axis of two pixels.
DOCUMENTED = [
    ("UNALIGN_CORNERS", [0.0, 0.1, 0.5, 0.9, 1.0]),
    ("STRICT_ALIGN_CORNERS", [0.0, 0.25, 0.5, 0.75, 1.0]),
    ("ALIGN_CORNERS", [0.0, 0.25, 0.5, 0.75, 1.0]),
    ("DEFAULT", [0.0, 0.4, 0.8, 1.0, 1.0]),
    ("OFFSET_CORNERS", [0.1, 0.3, 0.5, 0.7, 0.9]),
    ("UNALIGN_CORNERS", [0.0, 0.0, 1 / 3, 2 / 3, 1.0, 1.0]),
    ("STRICT_ALIGN_CORNERS", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ("ALIGN_CORNERS", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ("DEFAULT", [0.0, 1 / 3, 2 / 3, 1.0, 1.0, 1.0]),
    ("OFFSET_CORNERS", [1 / 12, 0.25, 5 / 12, 7 / 12, 0.75, 11 / 12]),
    ("ALIGN_CORNERS", [0.5]),
    ("STRICT_ALIGN_CORNERS", [0.0]),
]


@pytest.mark.parametrize(("mode", "expected"), DOCUMENTED)
def test_linear_resizing_samples_the_documented_grids(mode: str, expected: list[float]) -> None:
    # given, when
    old = resize_bilinear(x=RAMP, target_size_height=1, target_size_width=len(expected), sampling_mode=mode)
    new = resize(x=RAMP, shape=(1, 1, len(expected)), resized_dims=2, sampling_mode=mode)

    # then
    torch.testing.assert_close(old.flatten(), torch.tensor(expected), **CLOSE)
    torch.testing.assert_close(new, old)


@pytest.mark.parametrize("size", [(5, 9), (3, 2), (7, 7)])
def test_bilinear_agrees_with_torch(size: tuple[int, int]) -> None:
    # given
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    height, width = size

    # when
    corners = resize_bilinear(
        x=x, target_size_height=height, target_size_width=width, sampling_mode="STRICT_ALIGN_CORNERS"
    )
    general = resize(x=x, shape=size, resized_dims=2, sampling_mode="ALIGN_CORNERS")
    centres = resize_bilinear(x=x, target_size_height=height, target_size_width=width, sampling_mode="UNALIGN_CORNERS")

    # then
    torch.testing.assert_close(corners, functional.interpolate(x, size, mode="bilinear", align_corners=True))
    torch.testing.assert_close(general, corners, **CLOSE)
    torch.testing.assert_close(centres, functional.interpolate(x, size, mode="bilinear", align_corners=False))


def test_nearest_takes_the_pixel_below_or_the_closest() -> None:
    # given
    x = torch.tensor([1.5, -2.5, 3.5]).view(1, 1, 1, 3)
    two = torch.tensor([-6.0, 9.0]).view(1, 1, 2, 1)

    # when
    scaled = upsample_nearest_neighbor(x=x, scale_factor_height=3.17, scale_factor_width=0.67)
    sized = resize_nearest_neighbor(x=x, target_size_height=1, target_size_width=7)
    rounded = resize(x=two, shape=(1, 1, 3, 2), resized_dims=2, interpolation_mode="NEAREST_NEIGHBOR")

    # then: 2/3 is closer to the second pixel, though it is below it
    assert scaled.shape == (1, 1, 3, 2)
    assert scaled[0, 0, 0].tolist() == [1.5, -2.5]
    assert torch.equal(sized, functional.interpolate(x, (1, 7), mode="nearest"))
    assert rounded[0, 0].tolist() == [[-6.0, -6.0], [9.0, 9.0], [9.0, 9.0]]


def test_resize_keeps_sizes_given_as_zero_and_resizes_any_number_of_axes() -> None:
    # given
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))

    # when
    kept = resize(x=x, shape=(0, 8), resized_dims=2, sampling_mode="UNALIGN_CORNERS")
    one = resize(x=x, shape=(8,), resized_dims=1, sampling_mode="UNALIGN_CORNERS")

    # then
    expected = functional.interpolate(x, 8, mode="linear", align_corners=False)
    torch.testing.assert_close(kept, expected, **CLOSE)
    torch.testing.assert_close(one, expected, **CLOSE)


@pytest.mark.parametrize(
    ("align", "half_pixel", "expected"),
    [
        (True, None, [1.0, 1.2, 1.4, 1.6, 1.8, 2.0]),
        (True, False, [1.0, 1.2, 1.4, 1.6, 1.8, 2.0]),
        (False, None, [1.0, 1.0, 4 / 3, 5 / 3, 2.0, 2.0]),
        (False, True, [1.0, 1.0, 4 / 3, 5 / 3, 2.0, 2.0]),
        (False, False, [1.0, 4 / 3, 5 / 3, 2.0, 2.0, 2.0]),
    ],
)
def test_upsample_bilinear_chooses_its_grid(align: bool, half_pixel: bool | None, expected: list[float]) -> None:
    # given
    x = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)

    # when
    result = upsample_bilinear(
        x=x, scale_factor_height=2, scale_factor_width=3, align_corners=align, half_pixel_centers=half_pixel
    )

    # then
    torch.testing.assert_close(result, torch.tensor([expected, expected]).view(1, 1, 2, 6), **CLOSE)


def test_crop_cuts_both_ends() -> None:
    # given, when
    result = crop(x=PICTURE, crop_height=(1, 0), crop_width=(0, 2))

    # then
    assert torch.equal(result, PICTURE[..., 1:, :2])


@pytest.mark.parametrize(
    ("box", "size", "expected"),
    [
        ([1.0, 1.0, 2.0, 2.0], 2, [6.0, 7.0, 10.0, 11.0]),
        ([1.0, 1.0, 2.0, 2.0], 1, [8.5]),
        ([2.0, 2.0, 1.0, 1.0], 2, [11.0, 10.0, 7.0, 6.0]),
    ],
)
def test_crop_resize_before_ios17_takes_every_box_of_every_image(
    box: list[float], size: int, expected: list[float]
) -> None:
    # given
    x = torch.cat([PICTURE, PICTURE + 100])
    roi = torch.tensor(box).view(1, 1, 4, 1, 1)

    # when
    result = crop_resize(
        x=x, roi=roi, target_height=size, target_width=size, sampling_mode="ALIGN_CORNERS",
        context=make_context("ios15"),
    )  # fmt: skip

    # then
    assert result.shape == (1, 2, 1, size, size)
    assert result[0, 0].flatten().tolist() == expected
    assert (result[0, 1] - 100).flatten().tolist() == expected


def test_crop_resize_pads_what_lies_outside() -> None:
    # given: the boxes of Apple's test of iOS16 and iOS17
    boxes = torch.tensor([[0.1, 0.3, 1.3, 1.0], [0.5, 1.8, 1.0, 0.3], [0.0, 0.4, 0.6, 0.7]])
    roi = torch.cat([torch.zeros(3, 1), boxes], dim=1).view(3, 1, 5, 1, 1)
    pad, size = 10.0, {"target_height": 2, "target_width": 2}

    # when
    new = crop_resize(
        x=PICTURE, boxes=boxes, box_indices=torch.zeros(3, dtype=torch.int32), normalized_coordinates=True,
        sampling_mode="ALIGN_CORNERS", pad_value=pad, context=make_context("ios17"), **size,
    )  # fmt: skip
    old = crop_resize(
        x=PICTURE, roi=roi, normalized_coordinates=True, sampling_mode="ALIGN_CORNERS", pad_value=pad,
        context=make_context("ios16"), **size,
    )  # fmt: skip

    # then
    expected = torch.tensor([3.1, 5.2, pad, pad, pad, 7.9, pad, 13.9, 2.2, 3.1, 9.4, 10.3])
    torch.testing.assert_close(new.flatten(), expected, **CLOSE)
    torch.testing.assert_close(old.flatten(), expected, **CLOSE)
    assert new.shape == (3, 1, 2, 2)
    assert old.shape == (3, 1, 1, 2, 2)


@pytest.mark.parametrize(
    ("mode", "box"),
    [
        ("CORNERS_HEIGHT_FIRST", [0.0, 1.0, 2.0, 3.0]),
        ("CORNERS_WIDTH_FIRST", [1.0, 0.0, 3.0, 2.0]),
        ("CENTER_SIZE_HEIGHT_FIRST", [1.0, 2.0, 2.0, 2.0]),
        ("CENTER_SIZE_WIDTH_FIRST", [2.0, 1.0, 2.0, 2.0]),
    ],
)
def test_crop_resize_reads_boxes_in_every_convention(mode: str, box: list[float]) -> None:
    # given, when: rows 0 to 2, columns 1 to 3, coordinates halved to be scaled again
    result = crop_resize(
        x=PICTURE, boxes=torch.tensor([box]) / 2, spatial_scale=2.0, target_height=3, target_width=3,
        box_coordinate_mode=mode, sampling_mode="STRICT_ALIGN_CORNERS", context=make_context("ios17"),
    )  # fmt: skip

    # then
    assert torch.equal(result, PICTURE[:, :, 0:3, 1:4])


def _resample(coordinates: list[float], sampling: str, padding: str, value: float, mode: str, align: bool) -> Tensor:
    return resample(
        x=torch.tensor([11.0, 22.0, 33.0, 44.0]).view(1, 1, 2, 2),
        coordinates=torch.tensor(coordinates).view(1, 2, 2, 2),
        sampling_mode=sampling,
        padding_mode=padding,
        padding_value=value,
        coordinates_mode=mode,
        align_corners=align,
    ).flatten()


@pytest.mark.parametrize(
    ("sampling", "padding", "value", "mode", "align", "expected"),
    [
        ("bilinear", "constant", 6.17, "normalized_minus_one_to_one", True, [8.585, 6.17, 27.5, 6.17]),
        ("nearest", "border", -1.0, "unnormalized", False, [11.0, 11.0, 11.0, 44.0]),
        ("bilinear", "reflection", -1.0, "normalized_zero_to_one", True, [22.0, 36.3, 11.0, 34.1]),
        ("nearest", "symmetric", -1.0, "normalized_zero_to_one", False, [22.0, 33.0, 11.0, 33.0]),
    ],
)
def test_resample_gives_the_values_of_apples_test(
    sampling: str, padding: str, value: float, mode: str, align: bool, expected: list[float]
) -> None:
    # given
    coordinates = [-1.0, -2.0, -3.7, -1.0, 0.0, 0.0, 3.5, 1.2]

    # when
    result = _resample(coordinates, sampling, padding, value, mode, align)

    # then
    torch.testing.assert_close(result, torch.tensor(expected), **CLOSE)


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize(("padding", "ours"), [("zeros", "constant"), ("border", "border"), ("reflection", "")])
def test_resample_agrees_with_grid_sample(align: bool, padding: str, ours: str) -> None:
    # given: torch reflects at pixel centres with align_corners and at their borders without
    random = torch.Generator().manual_seed(2)
    x, grid = torch.randn(2, 3, 4, 5, generator=random), torch.rand(2, 6, 7, 2, generator=random) * 3 - 1.5
    ours = ours or ("reflection" if align else "symmetric")
    size = torch.tensor([5.0, 4.0])
    pixels = (grid + 1) / 2 * (size - 1) if align else (grid + 1) / 2 * size - 0.5

    # when: normalised coordinates, and the same in pixels
    arguments = {"sampling_mode": "bilinear", "padding_mode": ours, "padding_value": 0.0, "align_corners": align}
    normalized = resample(x=x, coordinates=grid, coordinates_mode="normalized_minus_one_to_one", **arguments)
    direct = resample(x=x, coordinates=pixels, coordinates_mode="unnormalized", **arguments)

    # then
    expected = functional.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=align)
    torch.testing.assert_close(normalized, expected, **CLOSE)
    torch.testing.assert_close(direct, expected, **CLOSE)


def test_affine_gives_the_values_of_apples_test() -> None:
    # given
    x = torch.tensor([11.0, 22.0, 33.0, 44.0]).view(1, 1, 2, 2)
    matrix = torch.tensor([[-1.0, -2.0, -3.7, -1.0, 3.5, 1.2]])

    # when
    result = affine(
        x=x, transform_matrix=matrix, output_height=2, output_width=5, sampling_mode="bilinear",
        padding_mode="constant", padding_value=0.0, coordinates_mode="normalized_minus_one_to_one", align_corners=True,
    )  # fmt: skip

    # then
    expected = torch.tensor([10.7525, 5.94, 2.5025, 0.44, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(result.flatten(), expected, **CLOSE)
