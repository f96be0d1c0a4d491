"""NeuralNetwork layers that resample the last two dimensions; the grids are those of MIL's operators."""

import torch
from torch import Tensor

from coreml_runtime.errors import ModelError
from coreml_runtime.nn.layer import Binder, Kernel, Layer
from coreml_runtime.nn.mil import mil_context
from coreml_runtime.ops import image_resizing

_GRIDS = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS")
"""MIL's names of SamplingMode.Method, in the order of its numbers."""

_BOXES = ("CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST")


def upsample(layer: Layer) -> Kernel:
    """By a whole or fractional factor for each of H and W; nearest or bilinear."""
    p = layer.parameters
    factors = tuple(p.fractionalScalingFactor) or tuple(p.scalingFactor) or (1, 1)
    if len(factors) != 2:
        raise ModelError(f"layer {layer.name}: {len(factors)} scaling factors; 2 are needed")
    height, width = factors
    if p.mode == p.NN:
        return lambda x: image_resizing.upsample_nearest_neighbor(
            x=x, scale_factor_height=height, scale_factor_width=width
        )
    corners = p.linearUpsampleMode == p.ALIGN_CORNERS_TRUE
    centers = p.linearUpsampleMode == p.ALIGN_CORNERS_FALSE
    return lambda x: image_resizing.upsample_bilinear(
        x=x,
        scale_factor_height=height,
        scale_factor_width=width,
        align_corners=corners,
        half_pixel_centers=centers,
    )


def resize_bilinear(layer: Layer) -> Kernel:
    """To a given size."""
    p = layer.parameters
    height, width = (int(size) for size in (tuple(p.targetSize) or (1, 1)))
    grid = _GRIDS[p.mode.samplingMethod]
    return lambda x: image_resizing.resize_bilinear(
        x=x, target_size_height=height, target_size_width=width, sampling_mode=grid
    )


def crop_resize(layer: Layer) -> Kernel:
    """Boxes (N, 1, 4 or 5, 1, 1) of an image (1, B, C, H, W), each resized (CropResizeLayerParams)."""
    p = layer.parameters
    height, width = (int(size) for size in (tuple(p.targetSize) or (1, 1)))
    context = mil_context(1)
    normalized, spatial_scale = p.normalizedCoordinates, p.spatialScale or 1.0
    boxes, grid = _BOXES[p.boxIndicesMode.boxMode], _GRIDS[p.mode.samplingMethod]

    def run(x: Tensor, roi: Tensor) -> Tensor:
        return image_resizing.crop_resize(
            x=x.squeeze(0) if x.dim() == 5 else x,
            roi=roi,
            target_height=height,
            target_width=width,
            normalized_coordinates=normalized,
            spatial_scale=spatial_scale,
            box_coordinate_mode=boxes,
            sampling_mode=grid,
            context=context,
        ).to(torch.float32)

    return run


LAYERS: dict[str, Binder] = {
    "upsample": upsample,
    "resizeBilinear": resize_bilinear,
    "cropResize": crop_resize,
}
