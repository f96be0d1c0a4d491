"""Elementwise operators, on edge values."""

from __future__ import annotations

import numpy as np

from tests.runtime.coreai.operands import Case, boolean, case, f16, f32, i32, scalar

EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.7, -0.001, 0.25, np.inf, -np.inf, np.nan, 11.0]
INSIDE = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 0.25, 0.9999, -0.75, 0.001, -0.001, 0.125, -0.3, 0.3, 0.7, -0.9]
LEFT = [1.0, -1.0, 0.0, 7.5, -7.5, np.inf, -np.inf, np.nan, 5.0, 0.0, -0.0, 2.0, -3.0, 3.0, 0.5, 10.0]
RIGHT = [2.0, 2.0, 3.0, 2.0, 2.0, 1.0, 1.0, 1.0, np.nan, 0.0, 1.0, np.inf, 2.0, -2.0, 0.5, -3.0]
INTS_LEFT = [7, -7, 7, -7, 0, 2**31 - 1, -(2**31), 5, 10, 3, 1, 2]
INTS_RIGHT = [2, 2, -2, -2, 3, 1, 3, 5, -3, 7, 9, 30]


def unary() -> list[Case]:
    """Elementwise operators of one tensor."""
    names = (
        "abs",
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atanh",
        "cos",
        "cosh",
        "erf",
        "exp",
        "log",
        "relu",
        "round",
        "rsqrt",
        "sigmoid",
        "silu",
        "sin",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
    )
    found = []
    for name in names:
        points = INSIDE if name in ("acos", "asin", "atanh") else EDGES
        found.append(case(name, "f32", [f32(points)], f"{len(points)}xf32", ulps=16))
        found.append(case(name, "f16", [f16(points)], f"{len(points)}xf16"))
    for mode in ("none", "tanh", "sigmoid"):
        attributes = f"approximate = #coreai.approximate<{mode}>"
        found.append(case("gelu", mode, [f32(EDGES)], f"{len(EDGES)}xf32", attributes=attributes, ulps=16))
    found += [
        case("abs", "i32", [i32([1, -1, 0, -(2**31)])], "4xsi32"),
        case("relu", "i32", [i32([1, -1, 0, -(2**31)])], "4xsi32"),
        case("not", "bool", [boolean([True, False])], "2xi1"),
        case("cast", "f32-i32", [f32([0.0, 1.9, -1.9, 300.5, -0.5])], "5xsi32"),
        case("cast", "f32-f16", [f32([0.1, 65504.0, 65520.0, 1e-8, np.nan])], "5xf16"),
        case("cast", "f32-bool", [f32([0.0, -0.0, 1e-9, np.nan, np.inf])], "5xi1"),
        case("cast", "i32-f32", [i32([0, 16777217, -5])], "3xf32"),
        case("cast", "bool-f32", [boolean([True, False])], "2xf32"),
        case("cast", "bool-i32", [boolean([True, False])], "2xsi32"),
        case("cast", "i32-bool", [i32([0, 7, -1])], "3xi1"),
        case("cast", "i32-i8", [i32([0, 7, -1, 127, -128])], "5xsi8"),
        case("cast", "f32-ui8", [f32([0.0, 7.9, 255.0])], "3xui8"),
    ]
    return found


def binary() -> list[Case]:
    """Elementwise operators of two tensors, and their broadcasting twins."""
    found = []
    count = len(LEFT)
    for name in ("add", "sub", "mul", "divide", "floor_divide", "maximum", "minimum", "modulo", "pow"):
        found.append(case(name, "f32", [f32(LEFT), f32(RIGHT)], f"{count}xf32", ulps=16))
        found.append(case(name, "f16", [f16(LEFT), f16(RIGHT)], f"{count}xf16"))
        if name != "pow":
            found.append(case(name, "i32", [i32(INTS_LEFT), i32(INTS_RIGHT)], f"{len(INTS_LEFT)}xsi32"))
        column = f32([[1.0], [2.0], [-3.0]])
        twin = f"decomposable.broadcasting_{name}"
        found.append(case(twin, "f32", [column, f32([2.0, -4.0])], "3x2xf32", ulps=16))
        found.append(case(twin, "scalar", [f32(LEFT), scalar(2.0, "float32")], f"{count}xf32", ulps=16))
    found.append(case("pow", "i32", [i32([2, -2, 3, 0, 5]), i32([3, 3, 0, 5, 1])], "5xsi32"))
    for name in ("equal", "not_equal", "greater"):
        found.append(case(name, "f32", [f32(LEFT), f32(RIGHT)], f"{count}xi1"))
        found.append(case(name, "i32", [i32(INTS_LEFT), i32(INTS_RIGHT)], f"{len(INTS_LEFT)}xi1"))
        twin = f"decomposable.broadcasting_{name}"
        found.append(case(twin, "f32", [f32([[1.0], [2.0]]), f32([2.0, 1.0])], "2x2xi1"))
    flags = [boolean([True, True, False, False]), boolean([True, False, True, False])]
    for name in ("and", "or", "xor"):
        found.append(case(name, "bool", flags, "4xi1"))
        found.append(
            case(f"decomposable.broadcasting_{name}", "bool", [boolean([[True], [False]]), flags[0]], "2x4xi1")
        )
    for name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
        found.append(case(name, "i32", [i32([6, -1, 0, 2**31 - 1]), i32([3, 5, -7, -1])], "4xsi32"))
        twin = f"decomposable.broadcasting_{name}"
        found.append(case(twin, "i32", [i32([[6], [-1]]), i32([3, 5, -7])], "2x3xsi32"))
    found += [
        case("where", "f32", [flags[0], f32([1.0, np.nan, 3.0, 4.0]), f32([5.0, 6.0, -0.0, np.inf])], "4xf32"),
        case(
            "decomposable.broadcasting_where",
            "f32",
            [boolean([[True], [False]]), f32([1.0, 2.0]), scalar(7.0, "float32")],
            "2x2xf32",
        ),
        case("add", "bool", flags, "4xi1"),
        case("mul", "bool", flags, "4xi1"),
    ]
    return found
