"""Convolutions, pools, interpolation, compressed weights."""

from __future__ import annotations

import numpy as np

from tests.runtime.coreai.operands import Case, case, constant, f16, f32, ints, scalar, sizes, value

GRID = np.random.default_rng(5).standard_normal((2, 3, 6, 5)).astype("float32")
VOLUME = np.random.default_rng(6).standard_normal((1, 2, 4, 5, 4)).astype("float32")


def convolutions() -> list[Case]:
    """Matrix products, convolutions, pools, interpolation."""
    weight = np.random.default_rng(7).standard_normal((4, 3, 3, 2)).astype("float32")
    spatial = np.random.default_rng(8).standard_normal((2, 2, 2, 2, 2)).astype("float32")
    one = scalar(1, "uint32")
    found = [
        case("batch_matmul", "f32", [f32(GRID), f32(GRID.swapaxes(2, 3))], "2x3x6x6xf32", ulps=64),
        case("batch_matmul", "f16", [f16(GRID), f16(GRID.swapaxes(2, 3))], "2x3x6x6xf16", ulps=8),
        case("decomposable.broadcasting_batch_matmul", "f32", [f32(GRID), f32(GRID[0, 0].T)], "2x3x6x6xf32", ulps=64),
        case(
            "conv2d",
            "strided",
            [f32(GRID), constant(weight, "float32"), sizes(2, 1), sizes(1, 2), one],
            "2x4x2x3xf32",
            ulps=64,
        ),
        case(
            "conv2d",
            "grouped",
            [f32(GRID), constant(weight[:3, :1], "float32"), sizes(1, 1), sizes(1, 1), scalar(3, "uint32")],
            "2x3x4x4xf32",
            ulps=64,
        ),
        case(
            "conv2d",
            "f16",
            [f16(GRID), constant(weight, "float16"), sizes(1, 1), sizes(1, 1), one],
            "2x4x4x4xf16",
            ulps=8,
        ),
        case(
            "conv3d",
            "f32",
            [f32(VOLUME), constant(spatial, "float32"), sizes(1, 1, 2), sizes(1, 2, 1), one],
            "1x2x3x3x2xf32",
            ulps=64,
        ),
        case(
            "conv_transpose2d",
            "f32",
            [
                f32(GRID),
                constant(weight.reshape(3, 4, 3, 2), "float32"),
                sizes(2, 3),
                sizes(1, 0),
                sizes(1, 2),
                sizes(1, 2),
                one,
            ],
            "2x4x12x17xf32",
            ulps=64,
        ),
        case(
            "conv_transpose3d",
            "f32",
            [
                f32(VOLUME),
                constant(spatial, "float32"),
                sizes(1, 2, 1),
                sizes(0, 1, 0),
                sizes(1, 1, 1),
                sizes(0, 1, 0),
                one,
            ],
            "1x2x5x9x5xf32",
            ulps=64,
        ),
    ]
    for ceil, shape in ((False, "2x3x2x2xf32"), (True, "2x3x3x3xf32")):
        operands = [f32(GRID), sizes(3, 2), sizes(2, 2), sizes(1, 1), scalar(ceil, "bool")]
        found.append(case("max_pool_2d", "ceil" if ceil else "floor", operands, shape))
    found += [
        case(
            "max_pool_2d",
            "dilated",
            [f32(GRID), sizes(2, 2), sizes(1, 1), sizes(2, 1), scalar(False, "bool")],
            "2x3x4x4xf32",
        ),
        case(
            "max_pool_3d",
            "f32",
            [f32(VOLUME), sizes(2, 2, 2), sizes(1, 2, 1), sizes(1, 1, 1), scalar(False, "bool")],
            "1x2x3x2x3xf32",
        ),
        case("sum_pool_2d", "f32", [f32(GRID), sizes(3, 2), sizes(2, 1), sizes(1, 1)], "2x3x2x4xf32", ulps=64),
        case("sum_pool_2d", "dilated", [f32(GRID), sizes(2, 2), sizes(1, 1), sizes(2, 3)], "2x3x4x2xf32", ulps=64),
        case(
            "sum_pool_3d",
            "f32",
            [f32(VOLUME), sizes(2, 2, 2), sizes(1, 2, 1), sizes(1, 1, 1)],
            "1x2x3x2x3xf32",
            ulps=64,
        ),
    ]
    for mode in ("linear", "nearest_neighbor"):
        attributes = f"interpolation_mode = #coreai.interpolation_mode<{mode}>"
        scale = constant([1.0, 1.0, 2.0, 1.75], "float32")
        offset = constant([0.0, 0.0, 0.0, -0.375], "float32")
        found += [
            case(
                "interpolate",
                mode,
                [f32(GRID), ints(2, 3, 12, 8), scale, offset],
                "2x3x12x8xf32",
                attributes=attributes,
                ulps=64,
            ),
            case(
                "interpolate_coordinates",
                mode,
                [f32(GRID[0, 0]), f32([[0.0, 0.0], [1.25, 3.5], [-2.0, 9.0], [2.5, 0.5]])],
                "4xf32",
                attributes=attributes,
                ulps=64,
            ),
        ]
    return found


def compression() -> list[Case]:
    """Compressed weights, quantised activations, complex numbers. An input keeps the graph from being folded."""
    data = constant([[7, -8, 3, 1], [0, -1, 2, 5]], "int8", "si4")
    return [
        case(
            "blockwise_shift_scale",
            "int4",
            [
                data,
                constant([[0.5, 2.0], [1.0, 3.0]], "float32"),
                constant([[1, 0], [2, -3]], "int8", "si4"),
                constant([[0.0, 0.5], [1.0, 0.0]], "float32"),
            ],
            "2x4xf32",
        ),
        case(
            "blockwise_shift_scale",
            "uint8-input",
            [
                value([[100, 110], [90, 105]], "uint8"),
                constant([[2.0]], "float32"),
                constant([[100]], "uint8"),
                constant([[0.5]], "float32"),
            ],
            "2x2xf32",
        ),
        case(
            "lut_to_dense",
            "grouped",
            [
                constant([[0, 1], [2, 3], [3, 0], [1, 1]], "uint8", "ui2"),
                constant(np.arange(8).reshape(2, 1, 4, 1), "float32"),
                scalar(0, "int16"),
            ],
            "4x2xf32",
        ),
        case(
            "lut_to_dense",
            "vectors",
            [
                constant([[0, 1], [1, 1]], "uint8", "ui1"),
                constant(np.arange(6).reshape(1, 1, 2, 3), "float32"),
                scalar(1, "int16"),
            ],
            "2x6xf32",
        ),
        case(
            "quantize",
            "tensor",
            [
                f32([[1.0, 5.0, 3.5], [-40.0, 200.0, 0.0]]),
                scalar(0.125, "float32"),
                scalar(2, "int8"),
                scalar(0.25, "float32"),
                ints(0, 1),
            ],
            "2x3xsi8",
        ),
        case(
            "quantize",
            "axis",
            [
                f32([[1.0, 5.0, 3.5], [-4.0, 20.0, 0.0]]),
                constant([0.5, 0.25, 2.0], "float32"),
                constant([3, 0, 128], "uint8"),
                constant([0.0, 1.0, 0.0], "float32"),
                scalar(1),
            ],
            "2x3xui8",
        ),
        case(
            "dequantize",
            "tensor",
            [
                value([[8, 4, -7], [13, 18, 5]], "int8"),
                scalar(0.125, "float32"),
                scalar(2, "int8"),
                scalar(0.5, "float32"),
                ints(0, 1),
            ],
            "2x3xf32",
        ),
        case(
            "dequantize",
            "axis",
            [
                value([[8, 4, 7], [13, 18, 5]], "uint8"),
                constant([0.5, 0.25, 2.0], "float32"),
                constant([3, 0, 1], "uint8"),
                constant([0.0, 1.0, 0.0], "float32"),
                scalar(1),
            ],
            "2x3xf32",
        ),
        case(
            "symmetric_quantization_statistics",
            "f32",
            [f32([[-100.0, -1000.0, 1.5], [100.0, 1000.0, 10.5]]), constant([-128.0, 127.0], "float32"), scalar(1)],
            "3xf32",
        ),
        case(
            "asymmetric_quantization_statistics",
            "f32",
            [f32([[-100.0, -1000.0, 1.5], [100.0, 3000.0, 10.5]]), constant([0.0, 255.0], "float32"), scalar(1)],
            "3xf32",
            "3xf32",
        ),
        case("create_complex", "f32", [f32([1.0, 3.0]), f32([2.0, -4.0])], "2xcomplex<f32>"),
    ]
