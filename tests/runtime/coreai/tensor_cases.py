"""Reductions, scans, and operators that rearrange or index elements."""

from __future__ import annotations

import numpy as np

from tests.runtime.coreai.operands import Case, boolean, case, f16, f32, i32, ints, scalar, sizes, value

GRID = np.random.default_rng(5).standard_normal((2, 3, 6, 5)).astype("float32")
MATRIX = [[1.0, 5.0, -3.0], [4.0, 2.0, np.inf]]


def reductions() -> list[Case]:
    """Reductions and scans."""
    found = []
    for name in ("reduce_max", "reduce_mean", "reduce_min", "reduce_product", "reduce_sum"):
        found += [
            case(name, "f32", [f32(GRID), ints(-1, 1)], "2x1x6x1xf32", ulps=64),
            case(name, "f16", [f16(GRID), ints(2)], "2x3x1x5xf16", ulps=8),
            case(name, "edges", [f32(MATRIX), ints(0)], "1x3xf32"),
        ]
        if name != "reduce_mean":
            found.append(case(name, "i32", [i32([[1, 5, 2**31 - 1], [4, 2, 1]]), ints(0)], "1x3xsi32"))
    flags = boolean([[True, False, True], [True, True, True]])
    found += [
        case("all", "bool", [flags, ints(1)], "2x1xi1"),
        case("any", "bool", [flags, ints(0, 1)], "1x1xi1"),
        case("argmax", "f32", [f32([[1.0, 3.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0]]), scalar(1)], "2x1xui32"),
        case("softmax", "f32", [f32(GRID), scalar(-3)], "2x3x6x5xf32", ulps=16),
        case("softmax", "f16", [f16(GRID), scalar(3)], "2x3x6x5xf16", ulps=8),
        case("softmax", "edges", [f32([[1.0, np.nan], [1.0, 2.0], [-np.inf, 0.0]]), scalar(1)], "3x2xf32", ulps=16),
    ]
    for place, mode in enumerate(("sum", "product", "min", "max")):
        attributes = f"scan_op = {place} : i32"
        for back in (False, True):
            found.append(
                case(
                    "scan",
                    f"{mode}-{'back' if back else 'on'}",
                    [f32([[1.0, 3.0, -2.0, 0.5], [2.0, 1.0, np.inf, 3.0]]), scalar(1, "uint32"), scalar(back, "bool")],
                    "2x4xf32",
                    attributes=attributes,
                )
            )
        found.append(
            case(
                "scan",
                f"{mode}-i32",
                [i32([[1, 3, -2], [2, 1, 4]]), scalar(0, "uint32"), scalar(False, "bool")],
                "2x3xsi32",
                attributes=attributes,
            )
        )
    return found


def shaping() -> list[Case]:
    """Operators that rearrange elements."""
    row = f32([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    block = f32(np.arange(24).reshape(2, 3, 4))
    found = [
        case("reshape", "signed", [row, ints(2, -1)], "2x3xf32"),
        case("reshape", "unsigned", [row, sizes(3, 2)], "3x2xf32"),
        case("expand_dims", "two", [f32(MATRIX), ints(0, -1)], "1x2x3x1xf32"),
        case("shrink_dims", "one", [f32([[[1.0], [2.0]]]), ints(0, -1)], "2xf32"),
        case("transpose", "rank3", [block, sizes(2, 0, 1)], "4x2x3xf32"),
        case("broadcast_to", "row", [f32([1.0, 2.0]), sizes(3, 2)], "3x2xf32"),
        case("broadcast_in_dims", "column", [f32([[1.0], [2.0]]), sizes(3), ints(1)], "2x3xf32"),
        case("broadcast_shapes", "two", [value([3, 1, 5], "uint32"), value([4, 1], "uint32")], "3xui32"),
        case("get_shape", "rank3", [block], "3xui32"),
        case("tile", "two", [f32([[1.0, 2.0]]), sizes(2, 3)], "2x6xf32"),
        case("concat", "axis1", [scalar(1), f32([[1.0], [2.0]]), f32([[3.0, 4.0], [5.0, 6.0]])], "2x3xf32"),
        case("split", "size", [row, scalar(4, "uint32"), scalar(0)], "4xf32", "2xf32"),
        case("split", "sections", [row, sizes(1, 3, 2), scalar(-1)], "1xf32", "3xf32", "2xf32"),
        case("reverse", "two", [block, ints(0, -1)], "2x3x4xf32"),
        case("range", "i32", [i32(0), i32(10), i32(3)], "?xsi32"),
        case("range", "f32", [f32(1.0), f32(0.0), f32(-0.25)], "?xf32"),
        case("slice", "on", [row, ints(1), ints(5), ints(2)], "2xf32"),
        case("slice", "negative", [row, ints(-4), ints(-1), ints(1)], "3xf32"),
        case("slice", "beyond", [row, ints(-40), ints(2**31 - 1), ints(4)], "2xf32"),
        case("slice", "back", [row, ints(4), ints(0), ints(-2)], "2xf32"),
        case("slice", "back-to-start", [row, ints(4), ints(-1), ints(-2)], "3xf32"),
        case("slice_update", "on", [row, ints(1), ints(5), ints(2), f32([10.0, 20.0])], "6xf32"),
        case(
            "slice_update",
            "rank2",
            [f32(np.zeros((3, 4))), ints(0, 1), ints(3, 3), ints(2, 1), f32(np.ones((2, 2)))],
            "3x4xf32",
        ),
    ]
    for mode in ("constant", "replicate", "reflect", "symmetric", "circular"):
        attributes = f"padding_mode = #coreai.padding_mode<{mode}>"
        operands = [block, sizes(0, 0, 1, 2, 2, 1), scalar(7.0, "float32")]
        found.append(case("pad", mode, operands, "2x6x7xf32", attributes=attributes))
    found.append(
        case(
            "pad",
            "i32",
            [i32([1, 2]), sizes(1, 0), scalar(-3)],
            "3xsi32",
            attributes="padding_mode = #coreai.padding_mode<constant>",
        )
    )
    return found


def indexing() -> list[Case]:
    """Operators that read and write by index, and that sort."""
    table = f32(np.arange(12).reshape(3, 4))
    ties = f32([[3.0, 1.0, 3.0, 2.0], [0.0, -np.inf, np.inf, 0.5]])
    found = [
        case("gather_along_axis", "f32", [table, i32([[0, -1], [2, 1], [3, 0]]), scalar(1)], "3x2xf32"),
        case("gather_nd", "rows", [table, i32([[2], [0], [-1]])], "3x4xf32"),
        case("gather_nd", "elements", [table, i32([[2, 3], [0, 1]])], "2xf32"),
        case("non_zero", "f32", [f32([[0.0, 1.0], [np.nan, -0.0]])], "?x2xsi32"),
    ]
    for mode in ("update", "add", "sub", "mul", "div", "max", "min"):
        found.append(
            case(
                "scatter_along_axis",
                mode,
                [f32([1.0, 2.0, 3.0]), i32([1, -1]), f32([5.0, 2.0]), scalar(0)],
                "3xf32",
                attributes=f"scatter_mode = #coreai.scatter_mode<{mode}>",
            )
        )
    for name in ("sort", "argsort"):
        for back in (False, True):
            found.append(
                case(
                    name,
                    "down" if back else "up",
                    [ties, scalar(1), scalar(back, "bool"), scalar(True, "bool")],
                    "2x4xf32" if name == "sort" else "2x4xsi32",
                )
            )
    return found
