"""Angles from exact numbers: positions, times and coordinates, for which half precision is too coarse.

Half holds 11 bits, so that an angle of 1000 is off by up to a quarter, and its sine is any number. Of rotary
embeddings, embeddings of a time, Fourier features and oscillators the angle is a product or a sum of numbers that are
exact themselves: integers, sizes, the app's own float32. What makes such an angle computes in float32, and its sine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Var

ANGLES = {"sin", "cos"}
_MAKES = {
    "add", "cast", "clip", "concat", "cumsum", "expand_dims", "floor", "floor_div", "gather", "gather_along_axis",
    "linear", "matmul", "mod", "mul", "range_1d", "real_div", "reshape", "resize_bilinear", "resize_nearest_neighbor",
    "select", "slice_by_index", "slice_by_size", "split", "squeeze", "stack", "sub", "tile", "transpose",
    "upsample_bilinear", "upsample_nearest_neighbor",
}  # fmt: skip
"""What an angle is made by; behind a convolution or an activation values are rounded already."""


def angle_selector() -> Callable[[Operation], bool]:
    """Whether an operator is a sine or cosine of an angle from exact numbers, or makes such an angle.

    Given:   %t = cast(x=%position, dtype="fp32");  %a = mul(x=%t, y=frequencies);  %c = cos(x=%a);  %y = mul(%c, %h)
    Result:  true of %t, %a and %c
    """
    exact: dict[Var, bool] = {}
    leads: dict[Operation, bool] = {}

    def is_exact(var: Var) -> bool:
        if var not in exact:
            exact[var] = False  # of a loop, should there be one
            exact[var] = _is_given(var) or (var.op.op_type in _MAKES and all(map(is_exact, _inputs(var.op))))
        return exact[var]

    def is_angle(op: Operation) -> bool:
        if op.op_type not in ANGLES | _MAKES or any(output.val is not None for output in op.outputs):
            return False
        if op not in leads:
            leads[op] = False
            leads[op] = all(map(is_exact, _inputs(op))) and (
                op.op_type in ANGLES or any(is_angle(user) for output in op.outputs for user in output.child_ops)
            )
        return leads[op]

    return is_angle


def _is_given(var: Var) -> bool:
    """Whether a value has no rounding behind it: a constant, an input of the program, an integer."""
    return var.op is None or var.op.op_type == "const" or var.val is not None or not _is_float(var)


def _is_float(var: Var) -> bool:
    from coremltools.converters.mil.mil import types

    kind = var.dtype
    return bool(kind is not None and types.is_float(kind))


def _inputs(op: Operation) -> Iterator[Var]:
    for value in op.inputs.values():
        yield from value if isinstance(value, list | tuple) else (value,)
