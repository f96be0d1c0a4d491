"""ONNX operators against onnxruntime, in half precision too, where values are large, zero, infinite or wide integers.

All operators of a test are in one file, which is converted once for each precision.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import coreml_runtime as runtime
from builder.artifacts.stages import ExampleInputs, Sample
from builder.backends.coreml.convert import convert
from builder.data import make_examples
from builder.errors import ConversionError
from builder.model.sources.onnx import load_onnx
from builder.progress import Silent
from builder.spec import BuildSpec
from builder.stages.capture import capture
from builder.stages.prepare import prepare

pytestmark = [
    pytest.mark.skipif(find_spec("onnxsim") is None, reason="optional packages"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:onnx"),
]

FLOATS = np.array([[0, 1, -1, 12, -12, 40], [300, -300, 0.5, 2.5, -2.5, 1e-3]], np.float32)
INTEGERS = np.array([[0, 1, -1, 2049, -2049, 7], [40000, -40000, 70000, 3, -7, 5]], np.int32)


def compared(
    folder, text: str, given: dict[str, np.ndarray], precision: str, opset: int = 21, target: str = "ios17"
) -> None:
    """Build the graph `text` in one precision and compare every output with onnxruntime's."""
    import onnx
    import torch

    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)  # which declares the outputs' shapes
    onnx.save(model, str(folder / "m.onnx"))
    spec = BuildSpec.model_validate(
        {
            "source": {"kind": "onnx", "file": str(folder / "m.onnx")},
            "input": {
                name: {"kind": "tensor", "shape": list(array.shape), "dtype": array.dtype.name}
                | ({"low": -100000, "high": 100000} if array.dtype == np.int32 else {})
                for name, array in given.items()
            },
            "precision": {"kind": precision},
            "target": {"name": target},
            "tracking": {"kind": "none"},
        }
    )
    tensors = {name: torch.from_numpy(array) for name, array in given.items()}
    examples = ExampleInputs(samples=(Sample(given=given, tensors=tensors),), digest="")
    source: Any = spec.source
    prepared = prepare(load_onnx(source, spec, Silent()), examples, spec)
    converted = convert(prepared, capture(prepared, examples, "onnx", {}), examples, spec)
    converted.model.save(str(folder / "m.mlpackage"))
    predicted = runtime.load(folder / "m.mlpackage").predict(dict(given))
    # one unit in the last place of half precision, and a few of them where operators follow each other
    relative, absolute = (2e-5, 2e-6) if precision == "fp32" else (1e-2, 2e-3)
    for name, wanted in zip(prepared.output_names, prepared.reference(*tensors.values()), strict=True):
        expected = wanted.numpy()
        largest = np.max(abs(expected[np.isfinite(expected)]), initial=1.0)  # sums round at the scale of their parts
        np.testing.assert_allclose(predicted[name], expected, relative, absolute * largest, err_msg=name)


def flexible_artifact(folder, text: str, inputs: dict[str, Any], opset: int = 18, target: str = "ios17") -> Any:
    """Build the graph `text` in float32 with these inputs; the artifact, and onnxruntime's session of the file."""
    import onnx
    import onnxruntime

    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}'), str(folder / "m.onnx"))
    spec = BuildSpec.model_validate(
        {
            "source": {"kind": "onnx", "file": str(folder / "m.onnx")},
            "input": inputs,
            "precision": {"kind": "fp32"},
            "target": {"name": target},
            "tracking": {"kind": "none"},
        }
    )
    examples = make_examples(spec)
    source: Any = spec.source
    prepared = prepare(load_onnx(source, spec, Silent()), examples, spec)
    converted = convert(prepared, capture(prepared, examples, "onnx", {}), examples, spec)
    converted.model.save(str(folder / "m.mlpackage"))
    return runtime.load(folder / "m.mlpackage"), onnxruntime.InferenceSession(str(folder / "m.onnx"))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_functions_of_numbers(precision, tmp_path):
    outputs = {
        "softplus": "Softplus(x)", "mish": "Mish(x)", "asinh": "Asinh(x)", "log": "Log(size)", "neg": "Neg(i)",
        "logsumexp": "ReduceLogSumExp(x, last)", "logsoftmax": "LogSoftmax(x)", "norm": "ReduceL2(x, last)",
        "prelu": "PRelu(x, slope)", "truncated": "Div(i, three)", "remainder": "Mod<fmod: int = 1>(i, three)",
        "last_of_most": "ArgMax<axis: int = 1, select_last_index: int = 1>(i)", "mean": "ReduceMean(x, last)",
    }  # fmt: skip
    kinds = dict.fromkeys(("neg", "truncated", "remainder"), "int32") | {"last_of_most": "int64"}
    declared = ", ".join(f"{kinds.get(name, 'float')}[] {name}" for name in outputs)
    body = " ".join(f"{name} = {call}" for name, call in outputs.items())
    text = f"""g (float[2,6] x, int32[2,6] i) => ({declared}) {{
        size = Abs(x)
        last = Constant <value_ints = [1]> ()
        three = Constant <value: tensor = int32 {{3}}> ()
        slope = Constant <value: tensor = float[6] {{0.1, 0.2, 0.3, 0.4, 0.5, 0.6}}> ()
        {body} }}"""
    compared(tmp_path, text, {"x": FLOATS, "i": INTEGERS}, precision)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_values_that_move(precision, tmp_path):
    masked = np.array([[1, -np.inf, 2], [np.inf, 0.5, -3], [4, -np.inf, 6]], np.float32)
    outputs = {
        "upper": "Trilu(x)", "below": "Trilu<upper: int = 0>(x, less)", "chosen": "Where(positive, x, zero)",
        "taken": "Gather<axis: int = 1>(i, places)", "reflected": 'Pad<mode: string = "reflect">(i, pads)',
        "padded": "Pad(i, pads, value)", "cut": "Pad(x, cuts)", "each": "Tile(i, twice)",
        "wide": "Cast<to: int = 2>(i)",
    }  # fmt: skip
    kinds = dict.fromkeys(("taken", "reflected", "padded", "each"), "int32") | {"wide": "uint8"}
    declared = ", ".join(f"{kinds.get(name, 'float')}[] {name}" for name in outputs)
    text = f"""g (float[3,3] x, int32[2,6] i) => ({declared}) {{
        less = Constant <value_int = -1> ()
        zero = Constant <value_float = 0.0> ()
        positive = Greater(x, zero)
        places = Constant <value_ints = [0, -1, 2]> ()
        pads = Constant <value_ints = [1, 2, 0, 1]> ()
        cuts = Constant <value_ints = [-1, 0, 0, 1]> ()
        value = Constant <value: tensor = int32 {{70000}}> ()
        twice = Constant <value_ints = [1, 2]> ()
        {" ".join(f"{name} = {call}" for name, call in outputs.items())} }}"""
    compared(tmp_path, text, {"x": masked, "i": INTEGERS}, precision)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_pictures(precision, tmp_path):
    random = np.random.default_rng(0)
    outputs = {
        "rounded_up": "MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(x)",
        "spread": "MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(x)",
        "averaged": "AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 0, 0, 1], ceil_mode = 1>(x)",
        "counted": "AveragePool<kernel_shape = [3, 3], strides = [3, 3], pads = [1, 1, 1, 1], ceil_mode = 1, "
        "count_include_pad = 1>(x)",
        "counted_to_the_end": "AveragePool<kernel_shape = [3, 3], strides = [2, 3], dilations = [2, 1], ceil_mode = 1, "
        "count_include_pad = 1>(x)",
        "powers": "LpPool<kernel_shape = [2, 2], p = 3>(x)",
        "cubic": 'Resize<mode = "cubic", antialias = 1>(x, none, none, sizes)',
        "shrunk": 'Resize<mode = "linear", coordinate_transformation_mode = "asymmetric">(x, none, scales)',
        "nearest": 'Resize<coordinate_transformation_mode = "half_pixel", nearest_mode = "ceil">(x, none, scales)',
        "turned": "DepthToSpace<blocksize = 2>(x)",
        "grouped": "GroupNormalization<num_groups = 2>(x, factor, offset)",
        "response": "LRN<size = 3>(x)",
        "widened": "ConvTranspose<strides = [2, 2], pads = [1, 1, 0, 0], output_padding = [1, 1]>(x, kernel)",
        "steps": "DequantizeLinear(q, scale, point)",
    }  # fmt: skip
    declared = ", ".join(f"float[n{i},c{i},h{i},w{i}] {name}" for i, name in enumerate(outputs))
    text = f"""g (float[1,4,7,6] x) => ({declared}) {{
        none = Constant <value_floats = [1.0]> ()
        sizes = Constant <value_ints = [1, 4, 5, 9]> ()
        scales = Constant <value_floats = [1.0, 1.0, 0.6, 1.5]> ()
        factor = Constant <value_floats = [1.0, 2.0, 0.5, -1.0]> ()
        offset = Constant <value_floats = [0.5, -0.5, 0.0, 1.0]> ()
        scale = Constant <value_float = 0.5> ()
        ones = Constant <value_floats = [1.0]> ()
        four = Constant <value_ints = [4, 1, 3, 3]> ()
        kernel = Expand(ones, four)
        point = Constant <value: tensor = uint8 {{128}}> ()
        q = QuantizeLinear(x, scale, point)
        {" ".join(f"{name} = {call}" for name, call in outputs.items())} }}"""
    text = text.replace("(x, none, none, sizes)", "(x, , , sizes)").replace("(x, none, scales)", "(x, , scales)")
    compared(
        tmp_path, text, {"x": 300 * random.normal(size=(1, 4, 7, 6)).astype(np.float16).astype(np.float32)}, precision
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_products_and_bits(precision, tmp_path):
    matrices = np.array([[[2, 1], [0.5, 3]], [[0, 0], [0, -300]], [[0.001, 0.002], [4, 5]]], np.float32)
    outputs = {
        "traced": 'Einsum<equation = "bii->b">(x)', "weighted": 'Einsum<equation = "bij,bkj->bik">(x, half)',
        "determinant": "Det(half)", "unit": "LpNormalization(x)", "share": "LpNormalization<axis = 1, p = 1>(x)",
        "both": "BitwiseAnd(i, three)", "either": "BitwiseOr(i, three)", "one": "BitwiseXor(i, three)",
        "others": "BitwiseNot(i)", "byte_others": "BitwiseNot(b)", "moved": 'BitShift<direction = "LEFT">(b, two)',
        "lowered": 'BitShift<direction = "RIGHT">(b, two)',
    }  # fmt: skip
    kinds = dict.fromkeys(("both", "either", "one", "others"), "int32")
    kinds |= dict.fromkeys(("byte_others", "moved", "lowered"), "uint8")
    declared = ", ".join(f"{kinds.get(name, 'float')}[] {name}" for name in outputs)
    text = f"""g (float[3,2,2] x, int32[2,6] i) => ({declared}) {{
        three = Constant <value: tensor = int32 {{3}}> ()
        two = Constant <value: tensor = uint8 {{2}}> ()
        b = Cast<to: int = 2>(i)
        divisor = Constant <value_float = 16.0> ()
        half = Div(x, divisor)
        {" ".join(f"{name} = {call}" for name, call in outputs.items())} }}"""
    compared(tmp_path, text, {"x": matrices, "i": abs(INTEGERS)}, precision)


def test_roots_of_mean_squares_in_half_precision(tmp_path):
    text = """g (float[2,6] x) => (float[2,6] y, float[2,6] z) {
        scale = Constant <value_floats = [1.0, 2.0, 0.5, -1.0, 3.0, 0.25]> ()
        y = RMSNormalization(x, scale)
        z = RMSNormalization<axis = 0, epsilon = 0.5>(x, scale) }"""
    compared(tmp_path, text, {"x": FLOATS * 100}, "fp16", opset=23)


def test_a_shape_that_an_input_gives_is_refused(tmp_path):
    text = "g (float[2,6] x, int64[2] sizes) => (float[a,b] y) { y = Reshape(x, sizes) }"
    with pytest.raises(ConversionError, match="the shape must be constant"):
        compared(tmp_path, text, {"x": FLOATS, "sizes": np.array([3, 4], np.int32)}, "fp32")


def test_integers_beyond_32_bits_are_refused_by_name(tmp_path):
    text = """g (int32[2,6] i) => (int64[] y) { wide = Cast<to: int = 7>(i)
        large = Constant <value: tensor = int64 {1099511627776}> () y = Add(wide, large) }"""
    with pytest.raises(ConversionError, match=r"\(Add\) computes with 1099511627776"):
        compared(tmp_path, text, {"i": INTEGERS}, "fp32")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_signals_and_places(precision, tmp_path):
    random = np.random.default_rng(0)
    outputs = {
        "spectrum": "DFT(signal)", "half": "DFT<onesided: int = 1>(signal)",
        "frames": "STFT(signal, step, window)", "products": "CumProd<exclusive: int = 1, reverse: int = 1>(rows, one)",
        "joined": "Col2Im<strides: ints = [2, 1]>(windows, image, block)",
        "sampled": 'GridSample<mode: string = "nearest">(x, grid)', "smooth": "GridSample(x, grid)",
    }  # fmt: skip
    shapes = ("1,8,2", "1,5,2", "1,3,3,2", "2,6", "1,1,4,4", "1,2,3,2", "1,2,3,2")
    declared = ", ".join(f"float[{shape}] {name}" for shape, name in zip(shapes, outputs, strict=True))
    body = " ".join(f"{name} = {call}" for name, call in outputs.items())
    text = f"""g (float[1,8,1] signal, float[2,6] rows, float[1,4,6] windows, float[1,2,4,6] x, float[1,3,2,2] grid)
        => ({declared}, float[1,2,2,3] greatest, int64[1,2,2,3] places, float[1,2,4,6] spread, float[6] total,
            float[2,6] sums) {{
        step = Constant <value: tensor = int64 {{2}}> ()
        window = Constant <value: tensor = float[4] {{0.1, 0.7, 0.7, 0.1}}> ()
        one = Constant <value: tensor = int64 {{1}}> ()
        image = Constant <value_ints = [4, 4]> ()
        block = Constant <value_ints = [2, 2]> ()
        start = Constant <value: tensor = float[6] {{0, 0, 0, 0, 0, 0}}> ()
        {body}
        greatest, places = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        spread = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(greatest, places)
        total, sums = Scan<num_scan_inputs = 1, body = each (float[6] before, float[6] row) =>
            (float[6] after, float[6] o) {{ after = Add(before, row) o = Mul(after, row) }}>(start, rows)
    }}"""
    given = {
        "signal": random.standard_normal((1, 8, 1)), "rows": random.standard_normal((2, 6)),
        "windows": random.standard_normal((1, 4, 6)), "x": random.standard_normal((1, 2, 4, 6)),
        "grid": np.array([[[[-1.0, 0.0], [0.25, 0.5]], [[0.0, 0.25], [0.5, -0.5]], [[1.5, 0.0], [-0.3, 0.9]]]]),
    }  # fmt: skip
    given = {name: np.round(array, 2).astype(np.float32) for name, array in given.items()}
    compared(tmp_path, text, given, precision, opset=26)


def test_places_from_the_end_along_a_size_that_the_app_chooses(tmp_path):
    # given places that count from the end, of constants and of an input
    text = """g (float[4,n] x, int64[2,2] places) => (float[4,n] a, float[4,n] b, float[4,n] c, float[4,n] d) {
        fixed = Constant <value: tensor = int64[2,2] {1, -1, -2, 0}> ()
        last = Constant <value: tensor = int64[4,1] {-1, 0, 1, -2}> ()
        rows = Constant <value: tensor = int64[2,1] {-1, 0}> ()
        two = Constant <value: tensor = float[2] {7.0, 8.0}> ()
        four = Constant <value: tensor = float[4,1] {1.0, 2.0, 3.0, 4.0}> ()
        a = ScatterND(x, fixed, two)
        b = ScatterND <reduction: string = "add"> (x, places, two)
        c = ScatterElements <axis: int = 1> (x, last, four)
        both = Constant <value_ints = [-1, 0]> ()
        picked = Gather(x, both)
        d = ScatterND <reduction: string = "max"> (x, rows, picked) }"""
    places = np.array([[-1, -2], [1, 0]], np.int32)
    # when it is built, then it writes where onnxruntime does, at the ends of the range and between
    flexible = {"kind": "tensor", "shape": [4, {"min": 2, "max": 9, "default": 5}]}
    given = {"kind": "tensor", "shape": [2, 2], "dtype": "int32", "low": -2, "high": 2}
    artifact, session = flexible_artifact(tmp_path, text, {"x": flexible, "places": given})
    for size in (2, 5, 7, 9):
        x = np.random.default_rng(size).standard_normal((4, size)).astype(np.float32)
        predicted = artifact.predict({"x": x, "places": places})
        for name, wanted in zip("abcd", session.run(None, {"x": x, "places": places.astype(np.int64)}), strict=True):
            np.testing.assert_allclose(predicted[name], wanted, rtol=1e-6, err_msg=f"{name}, {size}")


def test_windows_and_resizing_along_sizes_that_the_app_chooses(tmp_path):
    # given what converters of Keras and exporters of U-Nets and pyramids write
    nearest = 'Resize <mode: string = "nearest", coordinate_transformation_mode: string = '
    linear = nearest.replace("nearest", "linear")
    outputs = {
        "cut": "ConvTranspose <strides = [2,2], pads = [1,1,1,1], output_padding = [1,1]> (x, kernel)",
        "same": 'ConvTranspose <strides = [2,2], auto_pad = "SAME_UPPER"> (x, kernel)',
        "narrow": 'ConvTranspose <strides = [3,3], auto_pad = "SAME_LOWER"> (x, small)',
        "rounded_up": "MaxPool <kernel_shape = [3,3], strides = [2,2], ceil_mode = 1, pads = [1,1,1,1]> (x)",
        "means": "AveragePool <kernel_shape = [2,2], strides = [2,2], ceil_mode = 1> (x)",
        "upper": 'Conv <strides = [2,2], auto_pad = "SAME_UPPER"> (x, small)',
        "lower": 'Conv <strides = [2,3], auto_pad = "SAME_LOWER"> (x, kernel)',
        "pooled": 'MaxPool <kernel_shape = [3,2], strides = [2,2], auto_pad = "SAME_LOWER"> (x)',
        "averaged": 'AveragePool <kernel_shape = [3,3], strides = [2,2], auto_pad = "SAME_UPPER"> (x)',
        "repeated": f'{nearest}"asymmetric", nearest_mode: string = "floor"> (x, , twice)',
        "stretched": f'{nearest}"half_pixel"> (x, , more)',
        "halved": f'{nearest}"half_pixel", nearest_mode: string = "ceil"> (x, , half)',
        "aligned": f'{linear}"align_corners"> (x, , twice)',
        "smooth": f'{linear}"pytorch_half_pixel"> (x, , half)',
        "as_another": f'{linear}"half_pixel"> (means, , , sizes)',
        "cubic": 'Resize <mode: string = "cubic"> (means, , , sizes)',
    }
    declared = ", ".join(f"float[1,2,{name}_h,{name}_w] {name}" for name in outputs)
    text = f"""g (float[1,2,h,w] x) => ({declared}) {{
        kernel = Constant <value: tensor = float[2,2,3,3] {{{", ".join(f"{i % 7 - 3}.5" for i in range(36))}}}> ()
        small = Constant <value: tensor = float[2,2,2,2] {{{", ".join(f"{i % 5 - 2}.25" for i in range(16))}}}> ()
        twice = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]> ()
        more = Constant <value_floats = [1.0, 1.0, 1.5, 2.5]> ()
        half = Constant <value_floats = [1.0, 1.0, 0.5, 0.5]> ()
        sizes = Shape(x)
        {" ".join(f"{name} = {call}" for name, call in outputs.items())} }}"""
    open_size = {"min": 5, "max": 12, "default": 6}
    x = {"kind": "tensor", "shape": [1, 2, open_size, open_size]}
    artifact, session = flexible_artifact(tmp_path, text, {"x": x})
    # then each has onnxruntime's sizes and values at the ends of the range and between
    for height, width in ((6, 6), (5, 12), (7, 9), (11, 8)):
        values = np.random.default_rng(height).standard_normal((1, 2, height, width)).astype(np.float32)
        predicted = artifact.predict({"x": values})
        for name, wanted in zip(outputs, session.run(None, {"x": values}), strict=True):
            np.testing.assert_allclose(predicted[name], wanted, 1e-4, 1e-4, err_msg=f"{name} of {height} x {width}")


def test_operators_of_old_versions_keep_what_they_meant(tmp_path):
    # given resizing without a coordinate mode, and functions of all axes from one on
    text = """g (float[1,2,h,5] x) => (float[a,b,c,d] y, float[e,f,g,i] z, float[1,2,1,5] u, float[1,2,h,5] v) {
        more = Constant <value: tensor = float[4] {1.0, 1.0, 2.0, 2.0}> ()
        y = Resize <mode: string = "linear"> (x, more)
        z = Resize <mode: string = "nearest"> (x, more)
        m = ReduceMean <axes = [2]> (x)
        u = Hardmax (m)
        v = Softmax <axis: int = 2> (x) }"""
    x = {"kind": "tensor", "shape": [1, 2, {"min": 2, "max": 7, "default": 4}, 5]}
    artifact, session = flexible_artifact(tmp_path, text, {"x": x}, opset=10)
    # then they compute what onnxruntime does, which knows the old versions
    for height in (2, 4, 7):
        values = np.random.default_rng(height).standard_normal((1, 2, height, 5)).astype(np.float32)
        predicted = artifact.predict({"x": values})
        for name, wanted in zip("yzuv", session.run(None, {"x": values}), strict=True):
            np.testing.assert_allclose(predicted[name], wanted, 1e-4, 1e-5, err_msg=f"{name} of {height}")
