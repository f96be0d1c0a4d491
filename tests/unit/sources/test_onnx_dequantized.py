"""Files of dynamic quantization in float: each operator of theirs, against the file and what its weights say."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from builder.data import make_examples
from builder.errors import SourceError
from builder.model.sources import load_source
from builder.progress import Silent
from tests.unit.sources.test_onnx import spec_of
from tests.unit.sources.test_onnx_inputs import built

pytestmark = [
    pytest.mark.skipif(find_spec("onnxsim") is None, reason="optional packages"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:onnx"),
]

RNG = np.random.default_rng(0)


class Heard(Silent):
    """Keeps what it warns of."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, message: str, *, code: str) -> None:
        self.said.append(f"{code} {message}")


def model_of(text: str, **arrays: np.ndarray):
    import onnx

    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> {text}')
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def run(model, **given: np.ndarray) -> list[np.ndarray]:
    from builder.model.sources.onnx import make_session

    return make_session(model).run(None, given)


def in_float(model):
    from builder.model.sources.onnx_dequantized import dequantize

    floats = copy.deepcopy(model)
    dequantize(floats, Path("m.onnx"))
    return floats


def integers(*shape: int) -> np.ndarray:
    return RNG.integers(-127, 128, shape).astype(np.int8)


X = RNG.standard_normal((4, 6)).astype(np.float32)
SCALES = np.array([0.01, 0.02, 0.03], np.float32)
ZEROS = np.array([1, -2, 3], np.int8)

PRODUCTS = {
    "MatMulInteger": """q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, w, z, wz) f = Cast<to: int = 1>(i)
        both = Mul(s, ws) m = Mul(f, both) y = Add(m, bias)""",
    "moved before": """q, s, z = DynamicQuantizeLinear(x) shape = Constant <value: tensor = int64[2] {4, 6}> ()
        moved = Reshape(q, shape) i = MatMulInteger(moved, w, z, wz) f = Cast<to: int = 1>(i)
        both = Mul(s, ws) m = Mul(f, both) y = Add(m, bias)""",
    "DynamicQuantizeMatMul": "y = com.microsoft.DynamicQuantizeMatMul(x, w, ws, wz, bias)",
    "MatMulIntegerToFloat": """q, s, z = DynamicQuantizeLinear(x)
        y = com.microsoft.MatMulIntegerToFloat(q, w, s, ws, z, wz, bias)""",
}


@pytest.mark.parametrize("text", PRODUCTS.values(), ids=PRODUCTS)
def test_products_have_the_numbers_that_their_weights_say(text):
    w, bias = integers(6, 3), np.array([0.5, -1, 2], np.float32)
    model = model_of(f"g (float[4,6] x) => (float[4,3] y) {{ {text} }}", w=w, ws=SCALES, wz=ZEROS, bias=bias)
    wanted = X @ ((w.astype(np.float32) - ZEROS) * SCALES) + bias
    (y,) = run(in_float(model), x=X)
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run(model, x=X)[0], wanted, atol=0.03 * np.abs(wanted).max())


def test_a_convolution_whose_bias_is_in_steps_of_the_scale():
    w, ws, wz = integers(2, 3, 3, 3), np.array(0.02, np.float32), np.array(2, np.int8)
    x, bias = RNG.standard_normal((1, 3, 8, 8)).astype(np.float32), np.array([0.3, -0.7], np.float32)
    model = model_of(
        """g (float[1,3,8,8] x) => (float[1,2,4,4] y) {
            q, s, z = DynamicQuantizeLinear(x)  both = Mul(s, ws)  steps = Div(bias, both)  whole = Floor(steps)
            b = Cast<to: int = 6>(whole)  shape = Constant <value: tensor = int64[4] {1, 2, 1, 1}> ()
            b4 = Reshape(b, shape)  i = ConvInteger<pads: ints = [1, 1, 1, 1], strides: ints = [2, 2]>(q, w, z, wz)
            sum = Add(i, b4)  f = Cast<to: int = 1>(sum)  y = Mul(f, both) }""",
        w=w, ws=ws, wz=wz, bias=bias,
    )  # fmt: skip
    floats = model_of(
        """g (float[1,3,8,8] x) => (float[1,2,4,4] y) {
            y = Conv<pads: ints = [1, 1, 1, 1], strides: ints = [2, 2]>(x, w, bias) }""",
        w=(w.astype(np.float32) - 2) * ws, bias=bias,
    )  # fmt: skip
    (wanted,) = run(floats, x=x)
    np.testing.assert_allclose(run(in_float(model), x=x)[0], wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(run(model, x=x)[0], wanted, atol=0.05 * np.abs(wanted).max())


LSTM = """g (float[5,1,6] x) => (float[5,2,1,4] y, float[2,1,4] h) {
    y, h = com.microsoft.DynamicQuantizeLSTM<hidden_size: int = 4, direction: string = "bidirectional">
        (x, w, r, b, , , , , ws, wz, rs, rz) }"""


@pytest.mark.parametrize("each", [(2,), (2, 16)], ids=["one scale a direction", "one a column"])
def test_a_recurrent_layer(each):
    w, r, b = integers(2, 6, 16), integers(2, 4, 16), RNG.normal(0, 0.3, (2, 32)).astype(np.float32)
    ws, rs = (RNG.uniform(0.003, 0.006, each).astype(np.float32) for _ in range(2))
    zero = np.zeros(each, np.int8)
    model = model_of(LSTM, w=w, r=r, b=b, ws=ws, wz=zero, rs=rs, rz=zero)
    scaled = [
        (array * scale.reshape(2, 1, -1)).transpose(0, 2, 1).astype(np.float32) for array, scale in ((w, ws), (r, rs))
    ]
    floats = model_of(
        """g (float[5,1,6] x) => (float[5,2,1,4] y, float[2,1,4] h) {
            y, h = LSTM<hidden_size: int = 4, direction: string = "bidirectional">(x, w, r, b) }""",
        w=scaled[0], r=scaled[1], b=b,
    )  # fmt: skip
    x = RNG.standard_normal((5, 1, 6)).astype(np.float32)
    for got, wanted, file in zip(run(in_float(model), x=x), run(floats, x=x), run(model, x=x), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(file, wanted, atol=0.05)


MATMUL = f"g (float[4,6] x) => (float[4,3] y) {{ {PRODUCTS['MatMulInteger']} }}"


def saved(folder, model) -> str:
    import onnx

    onnx.save(model, str(folder / "m.onnx"))
    return str(folder / "m.onnx")


def test_such_a_file_is_built_on_request_and_says_how_far_it_is_from_that(tmp_path):
    w = integers(6, 3)
    file = saved(tmp_path, model_of(MATMUL, w=w, ws=SCALES, wz=ZEROS, bias=np.zeros(3, np.float32)))
    inputs = {"x": {"kind": "tensor", "shape": [4, 6]}}
    source = {"kind": "onnx", "file": file, "dequantize": True}
    spec, heard = spec_of(file, input=inputs, source=source), Heard()
    load_source(spec, make_examples(spec), heard)
    assert len(heard.said) == 1
    assert "rounding to 8 bits" in heard.said[0]
    artifact, _, _ = built(file, tmp_path, input=inputs, source=source)
    wanted = X @ ((w.astype(np.float32) - ZEROS) * SCALES)
    np.testing.assert_allclose(artifact.predict({"x": X})["y"], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("g (float[4,6] x) => (float[4,6] y) { y = Exp(x) }", "is not quantized dynamically"),
        ("g (uint8[4,6] x) => (int32[4,3] y) { y = MatMulInteger(x, w) }", "MatMulInteger"),
    ],
)
def test_what_has_nothing_to_measure_is_refused(text, said, tmp_path):
    file = saved(tmp_path, model_of(text, w=integers(6, 3)))
    whole = {"dtype": "int32", "high": 2} if "uint8" in text else {}
    inputs = {"x": {"kind": "tensor", "shape": [4, 6]} | whole}
    spec = spec_of(file, input=inputs, source={"kind": "onnx", "file": file, "dequantize": True})
    with pytest.raises(SourceError, match=said) as raised:
        load_source(spec, make_examples(spec), Silent())
    assert "write `dequantize" not in str(raised.value.hint)
