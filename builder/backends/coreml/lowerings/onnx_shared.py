"""ONNX operators that torch has too, written as our lowerings of torch's: sums of products, determinants, bits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from builder.backends.coreml.lowerings.einsum import einsum
from builder.backends.coreml.lowerings.integer import INTEGER, shift_left, shift_right
from builder.backends.coreml.lowerings.lowering import Var
from builder.backends.coreml.lowerings.matrices import det
from builder.backends.coreml.lowerings.onnx_elementwise import number
from builder.backends.coreml.lowerings.onnx_lowerer import Attributes, Inputs, Lowering, Node, OnnxLowerer

_BITWISE = {entry.operator: entry.lower for entry in INTEGER}


def _einsum(lowerer: OnnxLowerer, _: Var, inputs: Inputs, attributes: Attributes) -> list[Var]:
    equation = attributes["equation"]
    return [einsum(lowerer.mb, equation.decode() if isinstance(equation, bytes) else equation, inputs)]


def _det(lowerer: OnnxLowerer, _: Var, inputs: Inputs, __: Attributes) -> list[Var]:
    return [det(lowerer.mb, inputs[0])]


def _bitwise(operator: str, lowerer: OnnxLowerer, _: Var, inputs: Inputs, __: Attributes) -> list[Var]:
    """Of integers without a sign too: what is combined of two of 8 bits has 8 bits."""
    return [_BITWISE[f"bitwise_{operator}"](lowerer.mb, *inputs)]


def _not(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    """`-1 - x`; of integers without a sign the largest one less x."""
    kind = lowerer.dtype_of(node.input[0])
    if kind in ("UINT32", "UINT64"):
        raise RuntimeError(f"the bits of {kind.lower()} that are not set are beyond 32 bits with a sign")
    most = 2 ** int(kind.removeprefix("UINT")) - 1 if kind.startswith("UINT") else -1
    return [lowerer.mb.sub(x=most, y=inputs[0])]


def _shift(lowerer: OnnxLowerer, _: Var, inputs: Inputs, attributes: Attributes) -> list[Var]:
    direction = attributes["direction"]
    shift = shift_left if direction in ("LEFT", b"LEFT") else shift_right
    return [shift(lowerer.mb, *inputs)]


def _lp_normalized(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """`x / |x|` along an axis, zeros where all is zero; divided by the largest magnitude first, which squares need."""
    mb, (x,) = lowerer.mb, inputs
    axes = [int(attributes.get("axis", -1))]
    least = number(lowerer, x, 2.0**-14)
    scaled = mb.real_div(x=x, y=mb.maximum(x=mb.reduce_max(x=mb.abs(x=x), axes=axes, keep_dims=True), y=least))
    norm = mb.reduce_l1_norm if int(attributes.get("p", 2)) == 1 else mb.reduce_l2_norm
    total = mb.maximum(x=norm(x=scaled, axes=axes, keep_dims=True), y=least)
    return [mb.real_div(x=scaled, y=total, name=lowerer.fresh_name(node))]


SHARED: Mapping[str, Lowering] = {
    "BitShift": _shift,
    "BitwiseAnd": partial(_bitwise, "and"),
    "BitwiseNot": _not,
    "BitwiseOr": partial(_bitwise, "or"),
    "BitwiseXor": partial(_bitwise, "xor"),
    "Det": _det,
    "Einsum": _einsum,
    "LpNormalization": _lp_normalized,
}
"""By ONNX's name."""
