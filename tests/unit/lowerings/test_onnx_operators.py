"""ONNX operators against onnxruntime, in half precision too, where values are large, zero, infinite or wide integers.

All operators of a test are in one file, which is converted once for each precision.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from builder import runtime
from builder.artifacts import ExampleInputs, Sample
from builder.backends.coreml.convert import convert
from builder.errors import ConversionError
from builder.model.sources.onnx import load_onnx
from builder.spec import BuildSpec
from builder.stages.capture import capture
from builder.stages.prepare import prepare

pytestmark = [
    pytest.mark.skipif(find_spec("onnxsim") is None, reason="optional packages"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:onnx"),
]

FLOATS = np.array([[0, 1, -1, 12, -12, 40], [300, -300, 0.5, 2.5, -2.5, 1e-3]], np.float32)
INTEGERS = np.array([[0, 1, -1, 2049, -2049, 7], [40000, -40000, 70000, 3, -7, 5]], np.int32)


def compared(folder, text: str, given: dict[str, np.ndarray], precision: str) -> None:
    """Build the graph `text` in one precision and compare every output with onnxruntime's."""
    import onnx
    import torch

    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')
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
            "target": {"name": "ios17"},
            "tracking": {"kind": "none"},
        }
    )
    tensors = {name: torch.from_numpy(array) for name, array in given.items()}
    examples = ExampleInputs(samples=(Sample(given=given, tensors=tensors),), digest="")
    source: Any = spec.source
    prepared = prepare(load_onnx(source, spec), examples, spec)
    converted = convert(prepared, capture(prepared, examples, "onnx", {}), examples, spec)
    converted.model.save(str(folder / "m.mlpackage"))
    predicted = runtime.load(folder / "m.mlpackage").predict(dict(given))
    # one unit in the last place of half precision, and a few of them where operators follow each other
    relative, absolute = (2e-5, 1e-6) if precision == "fp32" else (1e-2, 2e-3)
    for name, wanted in zip(prepared.output_names, prepared.reference(*tensors.values()), strict=True):
        np.testing.assert_allclose(predicted[name], wanted.numpy(), relative, absolute, err_msg=name)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_functions_of_numbers(precision, tmp_path):
    outputs = {
        "softplus": "Softplus(x)", "mish": "Mish(x)", "asinh": "Asinh(x)", "log": "Log(size)", "neg": "Neg(i)",
        "logsumexp": "ReduceLogSumExp(x, last)", "logsoftmax": "LogSoftmax(x)", "norm": "ReduceL2(x, last)",
        "prelu": "PRelu(x, slope)", "truncated": "Div(i, three)", "remainder": "Mod<fmod: int = 1>(i, three)",
        "last_of_most": "ArgMax<axis: int = 1, select_last_index: int = 1>(i)", "mean": "ReduceMean(x, last)",
    }  # fmt: skip
    kinds = {name: "int32" for name in ("neg", "truncated", "remainder")} | {"last_of_most": "int64"}
    declared = ", ".join(f"{kinds.get(name, 'float')}[] {name}" for name in outputs)
    body = " ".join(f"{name} = {call}" for name, call in outputs.items())
    text = f"""g (float[2,6] x, int32[2,6] i) => ({declared}) {{
        size = Abs(x)
        last = Constant <value_ints = [1]> ()
        three = Constant <value: tensor = int32 {{3}}> ()
        slope = Constant <value: tensor = float[6] {{0.1, 0.2, 0.3, 0.4, 0.5, 0.6}}> ()
        {body} }}"""
    text = text.replace("[] ", "[r] ") if False else text
    compared(tmp_path, _without_shapes(text), {"x": FLOATS, "i": INTEGERS}, precision)


def _without_shapes(text: str) -> str:
    """Outputs of a rank that is not declared: `float[] y` would be a scalar."""
    return text.replace("[] ", " ") if "[] " not in text else text.replace("float[] ", "float[...] ").replace(
        "int32[] ", "int32[...] "
    ).replace("int64[] ", "int64[...] ")
