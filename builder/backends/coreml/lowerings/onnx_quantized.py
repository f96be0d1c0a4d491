"""Quantization of ONNX: of weights, which stay as small as the file has them, and of values between operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from builder.backends.coreml.lowerings.lowering import Var
from builder.backends.coreml.lowerings.onnx_lowerer import Attributes, Inputs, Lowering, Node, OnnxLowerer
from builder.backends.coreml.lowerings.onnx_reduction import constant

if TYPE_CHECKING:
    import numpy as np


def _along(x: Var, values: Var, axis: int, block: int) -> Var:
    """Scales or zero points as numpy, shaped to compute with `x`: one for all, for each slice, or for each block."""
    import numpy as np

    values = np.asarray(values)
    if values.size == 1:
        return values.reshape(())
    if block:
        return np.repeat(values, block, axis=axis)[tuple(slice(int(size)) for size in x.shape)]
    return values.reshape([-1 if index == axis else 1 for index in range(x.rank)])


_RANGES = {"UINT8": (0, 255), "INT8": (-128, 127), "UINT16": (0, 65535), "INT16": (-32768, 32767),
           "UINT4": (0, 15), "INT4": (-8, 7), "UINT2": (0, 3), "INT2": (-2, 1)}  # fmt: skip


def _quantize(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """round(x / scale) + zero point, within the range of the dtype; as int32 unless DequantizeLinear alone reads it."""
    mb, (x, scale, zero) = lowerer.mb, [*inputs, None][:3]
    import numpy as np

    kind = lowerer.dtype_of(node.output[0])
    if kind not in _RANGES:
        raise RuntimeError(f"Core ML has no {kind.lower()}")
    axis, block = int(attributes.get("axis", 1)) % max(x.rank, 1), int(attributes.get("block_size", 0))
    dtype = lowerer.types.nptype_from_builtin(x.dtype)
    scales = _along(x, constant(scale, "the scale"), axis, block).astype(dtype)
    zeros = None if zero is None else _along(x, constant(zero, "the zero point"), axis, block)
    is_pair = {reader.op_type for reader, _ in lowerer.readers.get(node.output[0], ())} == {"DequantizeLinear"}
    if is_pair and not block and _has_operator(kind):
        how = _parameters(scales, zeros, kind)
        return [mb.quantize(input=x, output_dtype=kind.lower(), name=lowerer.fresh_name(node), **how)]
    steps = mb.round(x=mb.real_div(x=x, y=scales))
    low, high = (end - (0 if zeros is None else zeros.astype(np.int64)) for end in _RANGES[kind])
    steps = mb.minimum(x=mb.maximum(x=steps, y=np.asarray(low, dtype=dtype)), y=np.asarray(high, dtype=dtype))
    if is_pair:  # without the zero point: half precision has no whole numbers beyond 2048
        lowerer.centred[node.output[0]] = zeros
        return [steps]
    whole = mb.cast(x=steps, dtype="int32")
    return [whole if zeros is None else mb.add(x=whole, y=zeros.astype(np.int32), name=lowerer.fresh_name(node))]


def _dequantize(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """(x - zero point) * scale; of a weight nothing that is computed: it is stored as the file has it."""
    mb, (x, scale, zero) = lowerer.mb, [*inputs, None][:3]
    axis, block = int(attributes.get("axis", 1)) % max(x.rank, 1), int(attributes.get("block_size", 0))
    scales = _along(x, constant(scale, "the scale"), axis, block)
    dtype = "fp16" if lowerer.dtype_of(node.output[0]) == "FLOAT16" else "fp32"
    scales = scales.astype("float16" if dtype == "fp16" else "float32")
    zeros = None if zero is None else _along(x, constant(zero, "the zero point"), axis, block)
    kind = lowerer.dtype_of(node.input[0])
    if x.dtype in (lowerer.types.int8, lowerer.types.uint8):
        return [mb.dequantize(input=x, name=lowerer.fresh_name(node), **_parameters(scales, zeros, kind))]
    if x.val is not None and not block and _is_weight(lowerer, node.output[0]) and _can_store(kind):
        return [_stored(x.val, scales, zeros, kind.lower(), lowerer.fresh_name(node))]
    zeros = _left_of(zeros, lowerer.centred.get(node.input[0]))
    if zeros is not None:
        x = mb.sub(x=x, y=zeros.astype(lowerer.types.nptype_from_builtin(x.dtype)))
    numbers = x if lowerer.types.is_float(x.dtype) else mb.cast(x=x, dtype=dtype)
    return [mb.mul(x=numbers, y=scales, name=lowerer.fresh_name(node))]


def _left_of(zeros: np.ndarray | None, taken: np.ndarray | None) -> np.ndarray | None:
    """The zero point that a value still has, of which `taken` was never added; None for none."""
    import numpy as np

    if taken is None:
        return zeros
    left = (0 if zeros is None else zeros.astype(np.int64)) - taken.astype(np.int64)
    return left if np.any(left) else None


def _has_operator(kind: str) -> bool:
    """Whether the target's ML programs have `quantize` and `dequantize`, and those this dtype."""
    return kind in ("INT8", "UINT8") and _has("iOS17")


def _parameters(scales: np.ndarray, zeros: np.ndarray | None, kind: str) -> dict[str, object]:
    """Scales and zero points of one axis, or of all values together, as `quantize` and `dequantize` take them."""
    import numpy as np

    axis = next((index for index, size in enumerate(np.shape(scales)) if size > 1), None)
    how = {"scale": np.ravel(scales)} | ({} if zeros is None else {"zero_point": np.ravel(zeros).astype(kind.lower())})
    return {k: v[0] for k, v in how.items()} if axis is None else {**how, "axis": axis}


_WEIGHTS = {("Conv", 1), ("ConvTranspose", 1), ("Gather", 0), ("Gemm", 1), ("MatMul", 1)}
"""Operators that take what a `constexpr` operator stores, by the place of that input."""


def _is_weight(lowerer: OnnxLowerer, name: str) -> bool:
    """Whether a value is read, and by nothing but operators that take stored weights, also once it is transposed."""
    readers = lowerer.readers.get(name, ())
    return bool(readers) and all(
        (reader.op_type, place) in _WEIGHTS or (reader.op_type == "Transpose" and _is_weight(lowerer, reader.output[0]))
        for reader, place in readers
    )


def _can_store(kind: str) -> bool:
    """Whether the target's ML programs have a `constexpr` operator for integers of this dtype."""
    least = {"INT8": "iOS16", "UINT8": "iOS16", "INT4": "iOS18", "UINT4": "iOS18"}
    return kind in least and _has(least[kind])


def _has(target: str) -> bool:
    import coremltools as ct
    from coremltools.converters.mil.mil.block import is_current_opset_version_compatible_with

    return bool(is_current_opset_version_compatible_with(getattr(ct.target, target)))


def _stored(
    values: np.ndarray, scales: np.ndarray, zeros: np.ndarray | None, dtype: str, name: str | None = None
) -> Var:
    """A `constexpr` operator: integers of `dtype`, with scales and zero points of the same rank or of rank 0."""
    import numpy as np
    from coremltools.converters.mil.frontend import _utils
    from coremltools.converters.mil.mil import types

    kind = types.nptype_from_builtin(types.string_to_builtin(dtype))
    offset = None if zeros is None else np.broadcast_to(zeros, np.shape(scales)).astype(kind)
    axis = next((index for index, size in enumerate(np.shape(scales)) if size > 1), None)
    return _utils._construct_constexpr_dequant_op(np.asarray(values).astype(kind), offset, scales, axis=axis, name=name)


def is_stored(x: Var) -> bool:
    """Whether a value is a weight that a `constexpr` operator stores as integers."""
    return x.op is not None and x.op.op_type in ("constexpr_affine_dequantize", "constexpr_blockwise_shift_scale")


def transposed(mb: Var, x: Var, order: Sequence[int]) -> Var:
    """The weight that is stored with its axes in another order.

    Given:   %w = constexpr_affine_dequantize(data (8, 3), scale (8), axis=0);  %y = transpose(%w, (1, 0))
    Result:  %y = constexpr_affine_dequantize(data (3, 8), scale (8), axis=1)
    """
    import numpy as np

    given = {name: value.val for name, value in x.op.inputs.items() if value is not None}
    if x.op.op_type == "constexpr_blockwise_shift_scale":
        return mb.constexpr_blockwise_shift_scale(**{k: np.transpose(v, order) for k, v in given.items()})
    given |= {"quantized_data": np.transpose(given["quantized_data"], order), "axis": list(order).index(given["axis"])}
    return mb.constexpr_affine_dequantize(**given)


def _transpose(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    x = inputs[0]
    order = [int(axis) for axis in attributes.get("perm") or reversed(range(x.rank))]
    return [
        transposed(lowerer.mb, x, order)
        if is_stored(x)
        else lowerer.mb.transpose(x=x, perm=order, name=lowerer.fresh_name(node))
    ]


QUANTIZED: Mapping[str, Lowering] = {
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
    "Transpose": _transpose,
}
"""By ONNX's name."""
