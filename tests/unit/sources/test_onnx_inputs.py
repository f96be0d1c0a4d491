"""What an ONNX file takes and gives: scalars, constants that are baked in, other names, sizes of -1, defaults."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

import coreml_runtime as runtime
from builder.backends.coreml.convert import convert
from builder.data import make_examples
from builder.errors import ConversionError, SourceError
from builder.model.sources import load_source
from builder.progress import Silent
from builder.stages.capture import capture
from builder.stages.prepare import prepare
from tests.unit.sources.test_onnx import spec_of

pytestmark = [
    pytest.mark.skipif(find_spec("onnxsim") is None, reason="optional packages"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:onnx"),
]

X = {"kind": "tensor", "shape": [2, 3]}


def file_of(folder, text: str, *, negative: bool = False, default: tuple[str, np.ndarray] | None = None) -> str:
    """Write the model that `text` is in ONNX's own notation; `negative` writes open sizes as -1."""
    import onnx

    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')
    if default is not None:
        model.graph.initializer.append(onnx.numpy_helper.from_array(default[1], default[0]))
    for dimension in model.graph.input[0].type.tensor_type.shape.dim if negative else ():
        if dimension.dim_param:
            dimension.dim_value = -1
    onnx.save(model, str(folder / "m.onnx"))
    return str(folder / "m.onnx")


def built(file: str, folder, **parts):
    """Build as far as the artifact; return it with what was prepared and the examples."""
    spec = spec_of(file, **parts)
    examples = make_examples(spec)
    prepared = prepare(load_source(spec, examples, Silent()), examples, spec)
    converted = convert(prepared, capture(prepared, examples, "onnx", {}), examples, spec)
    converted.model.save(str(folder / "m.mlpackage"))
    return runtime.load(folder / "m.mlpackage"), prepared, examples


def onnxruntime_of(file: str, **given) -> list[np.ndarray]:
    import onnxruntime

    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, given)


BRANCHES = """g (float[2,3] x, int64 rate) => (float[2,3] y) {
    limit = Constant <value: tensor = int64 {16000}> ()
    fast = Equal(rate, limit)
    y = If (fast) <
        then_branch = a () => (float[2,3] r) { r = Neg(x) },
        else_branch = b () => (float[2,3] s) { s = Abs(x) }>
}"""


@pytest.mark.parametrize(("rate", "expected"), [(16000, np.negative), (8000, np.abs)])
def test_a_constant_input_decides_branches_and_is_no_input_of_the_artifact(rate, expected, tmp_path):
    file = file_of(tmp_path, BRANCHES)
    artifact, _, examples = built(file, tmp_path, input={"x": X, "rate": {"constant": rate}})
    x = examples.samples[0].given["x"]
    assert list(artifact.inputs) == ["x"]
    (wanted,) = onnxruntime_of(file, x=x, rate=np.array(rate))
    np.testing.assert_allclose(artifact.predict({"x": x})["y"], wanted, rtol=1e-6)
    np.testing.assert_array_equal(wanted, expected(x))


def test_a_value_that_decides_between_branches_of_other_shapes_is_to_be_baked_in(tmp_path):
    # given branches of which one does not go with the sizes of x, as of a model for two sampling rates
    text = """g (float[a,b] x, int64 rate) => (float[a,b] y) {
        limit = Constant <value: tensor = int64 {16000}> ()
        w = Constant <value: tensor = float[5] {1, 2, 3, 4, 5}> ()
        fast = Equal(rate, limit)
        y = If (fast) <
            then_branch = c () => (float[a,b] r) { r = Neg(x) },
            else_branch = d () => (float[a,b] s) { s = Add(x, w) }>
    }"""
    file = file_of(tmp_path, text)
    scalar = {"kind": "tensor", "shape": [], "dtype": "int32", "low": 16000, "high": 16001}
    with pytest.raises(ConversionError, match="rate decides which branch of the graph is taken") as raised:
        built(file, tmp_path, input={"x": X, "rate": scalar})
    assert "`rate: {constant: …}`" in str(raised.value.hint)
    # when it is, then the other branch is left out
    artifact, _, examples = built(file, tmp_path, input={"x": X, "rate": {"constant": 16000}})
    x = examples.samples[0].given["x"]
    np.testing.assert_array_equal(artifact.predict({"x": x})["y"], -x)


def test_scalars_are_arrays_of_one_element_at_the_border(tmp_path):
    file = file_of(tmp_path, "g (float[2,3] x, float k) => (float[2,3] y, float s) { y = Mul(x, k) "
                             "s = ReduceSum <keepdims: int = 0> (y) }")  # fmt: skip
    artifact, prepared, examples = built(file, tmp_path, input={"x": X, "k": {"kind": "tensor", "shape": []}})
    given = examples.samples[0].given
    assert given["k"].shape == (1,)
    predicted = artifact.predict(dict(given))
    y, s = onnxruntime_of(file, x=given["x"], k=given["k"].reshape(()))
    np.testing.assert_allclose(predicted["y"], y, rtol=1e-6)
    np.testing.assert_allclose(predicted["s"], s.reshape(1), rtol=1e-5)
    assert prepared.reference(*examples.samples[0].tensors.values())[1].shape == (1,)


def test_inputs_and_outputs_are_renamed(tmp_path):
    file = file_of(tmp_path, "g (float[2,3] state, float[2,3] x) => (float[2,3] a, float[2,3] list) "
                             "{ a = Sub(state, x) list = Mul(state, x) }")  # fmt: skip
    names = {"previous": X | {"source_name": "state"}, "x": X}
    artifact, _, examples = built(file, tmp_path, input=names, output={"product": {"source_name": "list"}})
    given = examples.samples[0].given
    _, wanted = onnxruntime_of(file, state=given["previous"], x=given["x"])
    np.testing.assert_allclose(artifact.predict(dict(given))["product"], wanted, rtol=1e-6)


def test_an_output_that_core_ml_cannot_name_gets_another_name(tmp_path):
    artifact, prepared, _ = built(
        file_of(tmp_path, "g (float[2,3] x) => (float[2,3] list) { list = Neg(x) }"), tmp_path, input={"x": X}
    )
    assert prepared.output_names == ("list_output",)
    assert list(artifact.outputs) == ["list_output"]


def test_names_that_become_alike_stay_apart(tmp_path):
    import onnx

    file = file_of(tmp_path, "g (float[2,3] x) => (float[2,3] a_b, float[2,3] c) { a_b = Neg(x) c = Abs(x) }")
    model = onnx.load(file)
    model.graph.output[1].name = model.graph.node[1].output[0] = "a.b"
    onnx.save(model, file)
    artifact, _, examples = built(file, tmp_path, input={"x": X})
    x = examples.samples[0].given["x"]
    predicted = artifact.predict({"x": x})
    np.testing.assert_array_equal(predicted["a_b"], -x)
    np.testing.assert_array_equal(predicted["a_b_2"], abs(x))


def test_a_size_of_minus_one_is_open(tmp_path):
    file = file_of(tmp_path, "g (float[n,3] x) => (float[n,3] y) { y = Exp(x) }", negative=True)
    size = {"min": 1, "max": 4, "default": 2}
    artifact, _, _ = built(file, tmp_path, input={"x": X | {"shape": [size, 3]}})
    x = np.ones((3, 3), np.float32)
    np.testing.assert_allclose(artifact.predict({"x": x})["y"], np.exp(x), rtol=1e-6)


@pytest.mark.parametrize("given", [False, True])
def test_an_input_with_a_default_may_be_given_or_left_out(given, tmp_path):
    text = "g (float[2,3] x, float[3] bias) => (float[2,3] y) { y = Add(x, bias) }"
    default = np.array([1, 2, 3], np.float32)
    file = file_of(tmp_path, text, default=("bias", default))
    inputs = {"x": X} | ({"bias": {"kind": "tensor", "shape": [3]}} if given else {})
    artifact, _, examples = built(file, tmp_path, input=inputs)
    sample = examples.samples[0].given
    (wanted,) = onnxruntime_of(file, **sample)
    np.testing.assert_allclose(artifact.predict(dict(sample))["y"], wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "change", "said"),
    [
        (BRANCHES, {"rate": {"constant": 0.5}}, "takes rate as int64, and 0.5 is none"),
        (BRANCHES, {"rate": {"constant": [1, 2]}}, r"of shape \(\), and the constant is \(2,\)"),
        (BRANCHES, {}, "takes an input rate too"),
        ("g (float[2,3] x) => (int32[2,3] y) { q, s, z = DynamicQuantizeLinear(x) y = Cast<to: int = 6>(q) }", {},
         "quantized dynamically: DynamicQuantizeLinear"),
        ("g (float[2,3] x) => (seq(float[2,3]) y) { y = SequenceConstruct(x) }", {}, "returns y as sequence"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_file_is_refused(text, change, said, tmp_path):
    spec = spec_of(file_of(tmp_path, text), input={"x": X} | change)
    with pytest.raises(SourceError, match=said):
        load_source(spec, make_examples(spec), Silent())


def test_a_size_that_the_file_fixes_is_refused_with_how_to_open_it(tmp_path):
    spec = spec_of(file_of(tmp_path, "g (float[1,3] x) => (float[1,3] y) { y = Exp(x) }"), input={"x": X})
    with pytest.raises(SourceError, match=r"of shape \(1, 3\)") as raised:
        load_source(spec, make_examples(spec), Silent())
    assert "`shape: [1, 3]`" in str(raised.value.hint)
    assert "`open_batch: true` under `source`" in str(raised.value.hint)
    assert "dynamic_axes={'x': {0: 'size_0'}}" in str(raised.value.hint)


def test_a_batch_that_the_file_fixes_is_opened_on_request(tmp_path):
    text = """g (float[1,2,3] x) => (float[1,6] y) {
        shape = Constant <value: tensor = int64[2] {1, 6}> ()
        flat = Reshape(x, shape)
        y = Exp(flat) }"""
    file = file_of(tmp_path, text)
    size = {"min": 1, "max": 4}
    inputs = {"x": {"kind": "tensor", "shape": [size, 2, 3]}}
    source = {"kind": "onnx", "file": file, "open_batch": True}
    artifact, _, _ = built(file, tmp_path, input=inputs, source=source)
    x = np.arange(18, dtype=np.float32).reshape(3, 2, 3) / 18
    np.testing.assert_allclose(artifact.predict({"x": x})["y"], np.exp(x.reshape(3, 6)), rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("g (float[1,3] x) => (float[1,3] y) { s = ReduceSum <keepdims: int = 1> (x) y = Sub(x, s) }", "another one"),
        ("g (float[1,3] x) => (float[3] y) { s = Constant <value: tensor = int64[1] {3}> () y = Reshape(x, s) }",
         "cannot be opened"),
        ("g (float[n,3] x) => (float[n,3] y) { y = Exp(x) }", "no batch to open"),
        # right for two, wrong for three
        ("""g (float[1,3] x) => (float[1,3] y) {
            first = Constant <value: tensor = int64[1] {0}> ()
            last = Constant <value: tensor = int64[1] {2}> ()
            y = Slice(x, first, last, first) }""", "of 3 at once"),
        # a switch that one row throws for all
        ("""g (float[1,3] x) => (float[1,3] y) {
            limit = Constant <value: tensor = float {0.999}> ()
            most = ReduceMax <keepdims: int = 0> (x)
            low = Less(most, limit)
            zero = Sub(x, x)
            y = Where(low, x, zero) }""", "another one"),
    ],
)  # fmt: skip
def test_a_batch_that_operators_count_on_is_not_opened(text, said, tmp_path):
    file = file_of(tmp_path, text)
    inputs = {"x": {"kind": "tensor", "shape": [{"min": 1, "max": 4}, 3]}}
    spec = spec_of(file, input=inputs, source={"kind": "onnx", "file": file, "open_batch": True})
    with pytest.raises(SourceError, match=said):
        load_source(spec, make_examples(spec), Silent())


BRANCHES_IN_BRANCHES = """g (float[1,2,3] x, int64 rate) => (float[n,m] y) {
    limit = Constant <value: tensor = int64 {16000}> ()
    fast = Equal(rate, limit)
    y = If (fast) <
        then_branch = a () => (float[n,m] r) {
            sizes = Shape(x)
            zero = Constant <value: tensor = int64[1] {0}> ()
            first = Gather <axis: int = 0> (sizes, zero)
            one = Constant <value: tensor = int64[1] {1}> ()
            single = Equal(first, one)
            r = If (single) <
                then_branch = c () => (float[p,q] t) { t = Squeeze(x, zero) },
                else_branch = d () => (float[p,q,z] u) { u = Identity(x) }>
        },
        else_branch = b () => (float[n,m,k] s) { s = Neg(x) }>
}"""


def test_branches_within_branches_that_sizes_decide_are_written_out(tmp_path):
    file = file_of(tmp_path, BRANCHES_IN_BRANCHES)
    inputs = {"x": {"kind": "tensor", "shape": [1, 2, 3]}, "rate": {"constant": 16000}}
    artifact, _, examples = built(file, tmp_path, input=inputs)
    x = examples.samples[0].given["x"]
    np.testing.assert_array_equal(artifact.predict({"x": x})["y"], x[0])


def test_a_graph_that_onnxsim_fails_on_is_converted_as_it_is(tmp_path, monkeypatch, caplog):
    import onnxsim

    def fails(_model):
        raise RuntimeError("Nodes in a graph must be topologically sorted,\nhowever input of node")

    monkeypatch.setattr(onnxsim, "simplify", fails)
    file = file_of(tmp_path, "g (float[2,3] x) => (float[6] y) { shape = Constant <value_ints = [-1]> () "
                             "y = Reshape(x, shape) }")  # fmt: skip
    artifact, _, examples = built(file, tmp_path, input={"x": X})
    x = examples.samples[0].given["x"]
    np.testing.assert_array_equal(artifact.predict({"x": x})["y"], x.ravel())
    assert "however input of node" in caplog.text, "the whole message"


CHANNELS_LAST = """g (uint8[N,h,8,3] photo) => (float[N,3] colours) {
    levels = Cast <to: int = 1> (photo)
    weights = Constant <value: tensor = float[3] {0.1, 1.0, 10.0}> ()
    weighted = Mul(levels, weights)
    colours = ReduceMean <keepdims: int = 0> (weighted, axes)
}"""


def test_a_picture_of_bytes_with_channels_last_is_one_of_core_ml(tmp_path):
    # given a file as converters of TensorFlow write it, with an open height
    text = CHANNELS_LAST.replace("weights =", "axes = Constant <value_ints = [1, 2]> () weights =")
    file = file_of(tmp_path, text)
    photo = {"kind": "image", "shape": [1, 3, {"min": 4, "max": 9}, 8], "scale": 1}
    # when it is built with a picture as every other
    artifact, _, _ = built(file, tmp_path, input={"photo": photo})
    # then each colour has its place
    for height in (4, 7):
        levels = np.random.default_rng(height).integers(0, 256, (height, 8, 3), dtype=np.uint8)
        got = artifact.predict({"photo": Image.fromarray(levels)})["colours"]
        np.testing.assert_allclose(got, levels.mean((0, 1), keepdims=True)[0] * [0.1, 1, 10], rtol=1e-5)


def test_a_picture_of_bytes_is_not_normalised_twice(tmp_path):
    file = file_of(tmp_path, CHANNELS_LAST.replace("ReduceMean <keepdims: int = 0> (weighted, axes)", "Neg(weighted)"))
    photo = {"kind": "image", "shape": [1, 3, 4, 8], "mean": 0.5, "std": 0.5}
    with pytest.raises(SourceError, match="takes photo as uint8, which are the levels of a picture") as refused:
        built(file, tmp_path, input={"photo": photo})
    assert "`scale: 1`" in (refused.value.hint or "")


def test_outputs_whose_shapes_a_file_leaves_out(tmp_path):
    import onnx

    file = file_of(tmp_path, "g (float[2,3] x) => (float[2,3] y, int64[2,3] z) { y = Neg(x) z = Cast<to: int = 7>(x) }")
    model = onnx.load(file)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.output[1].ClearField("type")
    onnx.save(model, file)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model)
    artifact, _, _ = built(file, tmp_path, input={"x": X})
    x = np.array([[1.5, -2.5, 0], [9, 8.25, -7]], np.float32)
    predicted = artifact.predict({"x": x})
    np.testing.assert_array_equal(predicted["y"], -x)
    np.testing.assert_array_equal(predicted["z"], np.trunc(x))


def test_a_file_in_half_precision_computes_in_what_the_recipe_says(tmp_path):
    # given a sum that half precision does not hold, of numbers that it does
    text = """g (float16[1,4] x) => (float16[1] y, float16[1,4] z) {
        last = Constant <value_ints = [1]> () three = Constant <value: tensor = float16 {16896}> ()
        y = ReduceSum <keepdims: int = 0> (x, last)
        wide = Cast <to: int = 1> (x) narrow = Cast <to: int = 10> (wide) z = Div(narrow, three) }"""
    artifact, _, examples = built(file_of(tmp_path, text), tmp_path, input={"x": {"kind": "tensor", "shape": [1, 4]}})
    x = np.array([[60000, 20000, 1, 0.5]], np.float32)
    # when it is built in float32, then it computes so, and returns so
    predicted = artifact.predict({"x": x})
    np.testing.assert_allclose(predicted["y"], [80001.5], rtol=1e-6)
    np.testing.assert_allclose(predicted["z"], x / 3, rtol=1e-6)
    assert examples.samples[0].tensors["x"].dtype == torch.float32
