"""Quantized ONNX files against onnxruntime: weights stay as small as the file has them, where the target has that."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest

from tests.unit.lowerings.test_onnx_operators import compared

pytestmark = [
    pytest.mark.skipif(find_spec("onnxsim") is None, reason="optional packages"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:onnx"),
]

_STORED = {
    "ios15": {},
    "ios16": {"constexpr_affine_dequantize": 5},
    "ios17": {"constexpr_affine_dequantize": 5, "quantize": 2, "dequantize": 2},
    "ios18": {"constexpr_blockwise_shift_scale": 6, "quantize": 2, "dequantize": 2},
}
"""Of the graph below: its weights, of which one has four bits, and the values that are quantized between operators."""


@pytest.mark.parametrize(("target", "precision"), [(name, "fp32") for name in _STORED] + [("ios18", "fp16")])
def test_weights_stay_integers(target, precision, tmp_path):
    steps = np.random.default_rng(1).integers(0, 150, (2, 4, 6, 6))
    given = {"x": (steps / 128).astype(np.float32)}  # no value lies between two steps, where rounding decides

    compared(tmp_path, _graph(), given, precision, 21, target)

    found = Counter(_types(tmp_path / "m.mlpackage"))
    quantized = {name: count for name, count in found.items() if "quantize" in name or "constexpr" in name}
    assert quantized == _STORED[target]
    assert not found["transpose"]
    assert found["linear"] >= (1 if target == "ios15" else 3)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("kind", "zero", "scale"), [("uint16", 32768, 2.0**-8), ("uint16", 0, 2.0**-8),
                                                     ("int16", -700, 2.0**-8)])  # fmt: skip
def test_values_of_16_bits_keep_their_whole_range(kind, zero, scale, precision, tmp_path):
    text = f"""g (float[1,7] x) => (float[1,7] y) {{
        scale = Constant <value: tensor = float {{{scale}}}> ()
        zero = Constant <value: tensor = {kind} {{{zero}}}> ()
        q = QuantizeLinear(x, scale, zero)
        y = DequantizeLinear(q, scale, zero) }}"""
    given = {"x": np.array([[-200, -127.5, -1, 0.5, 1, 127.5, 120]], dtype=np.float32)}  # the ends of the range too
    compared(tmp_path, text, given, precision, 21, "ios17")


def _graph() -> str:
    """Values of 8 bits between operators, weights by channel and by tensor, transposed, in a table, and small ones."""
    weights = "".join(
        f"{name} = Constant <value: tensor = {kind}[{rows},{columns}] {{{_integers(rows * columns, low)}}}> () "
        for name, kind, rows, columns, low in (
            ("left", "int8", 8, 6, -128), ("right", "uint8", 6, 8, 0), ("flat", "int8", 8, 6, -128),
            ("table", "int8", 5, 6, -128), ("few", "int4", 8, 6, -8), ("plain", "int8", 1, 6, -128),
        )
    )  # fmt: skip
    return f"""g (float[2,4,6,6] x) => (float[2,4,6,8] a, float[2,4,6,8] b, float[8,8] c, float[2,6] d,
        float[2,4,6,8] e, float[2,4,6,6] f, float[2,4,4,4] g, float[2,4,13,13] h) {{
        {weights}
        step = Constant <value_float = 0.0078125> ()
        steps = Constant <value_floats = [0.01, 0.02, 0.005, 0.03, 0.01, 0.02, 0.015, 0.01]> ()
        six = Constant <value_floats = [0.01, 0.02, 0.005, 0.03, 0.01, 0.02]> ()
        four = Constant <value_floats = [0.01, 0.02, 0.005, 0.03]> ()
        middle = Constant <value: tensor = uint8 {{100}}> ()
        lowest = Constant <value: tensor = int8[6] {{1, 2, 3, -4, 5, -6}}> ()
        offsets = Constant <value: tensor = uint8[8] {{1, 2, 3, 4, 5, 6, 128, 255}}> ()
        kernel = Constant <value: tensor = int8[4,4,3,3] {{{_integers(144, -128)}}}> ()
        bias = Constant <value: tensor = int32[8] {{1, -200, 3000, 4, 5, 6, 7, -8}}> ()
        q = QuantizeLinear(x, step, middle)
        v = DequantizeLinear(q, step, middle)
        w_left = DequantizeLinear<axis = 0>(left, steps)
        turned = Transpose<perm = [1, 0]>(w_left)
        a = MatMul(v, turned)
        w_right = DequantizeLinear<axis = 1>(right, steps, offsets)
        b = MatMul(v, w_right)
        w_flat = DequantizeLinear<axis = 1>(flat, six, lowest)
        shape = Constant <value_ints = [-1, 6]> ()
        rows = Reshape(v, shape)
        first = Constant <value_ints = [0, 1, 2, 3, 4, 5, 6, 7]> ()
        eight = Gather(rows, first)
        w_bias = DequantizeLinear(bias, step)
        c = Gemm<transB = 1>(eight, w_flat, w_bias)
        w_table = DequantizeLinear(table, step)
        ids = Constant <value_ints = [4, 0]> ()
        d = Gather(w_table, ids)
        w_few = DequantizeLinear(few, step)
        few_turned = Transpose(w_few)
        e = MatMul(v, few_turned)
        w_plain = DequantizeLinear(plain, step)
        sums = Add(v, w_plain)
        wide = Constant <value_float = 0.03125> ()
        q_sums = QuantizeLinear(sums, wide, middle)
        f = DequantizeLinear(q_sums, wide, middle)
        w_kernel = DequantizeLinear<axis = 0>(kernel, four)
        g = Conv(v, w_kernel)
        h = ConvTranspose<strides = [2, 2]>(v, w_kernel)
    }}"""


def _integers(count: int, low: int) -> str:
    """Integers from `low` on; of four bits (-8) two in a byte, as ONNX stores them."""
    levels, count = ((0, 256), count // 2) if low == -8 else ((low, low + 256), count)
    return ", ".join(map(str, np.random.default_rng(count).integers(*levels, count)))


def _types(package) -> list[str]:
    import coremltools as ct

    program = ct.utils.load_spec(str(package)).mlProgram
    block = next(iter(program.functions["main"].block_specializations.values()))
    return [operation.type for operation in block.operations]
