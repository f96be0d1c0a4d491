"""ONNX files: run by onnxruntime, converted directly, with pictures, labels and open dimensions."""

from __future__ import annotations

import re
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

import coreml_runtime as runtime
from builder.backends.coreml.convert import convert
from builder.data import make_examples
from builder.errors import ConversionError, SourceError, UnfitEnvironmentError
from builder.model.capture.archive import archived, program_digest
from builder.model.sources import load_source
from builder.model.sources.onnx import make_session
from builder.progress import Silent
from builder.spec import BuildSpec
from builder.stages.capture import capture
from builder.stages.prepare import prepare
from builder.util.measures import compare

pytestmark = [
    pytest.mark.skipif(find_spec("onnxsim") is None, reason="optional packages"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:onnx"),
]

IMAGE = {"kind": "image", "shape": [1, 3, 16, 16], "mean": 0.5, "std": 0.25}


class Net(nn.Module):
    """Scores and features of a picture; Hardswish is an operator that onnxsim knows only by its definition."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 8, 3, stride=2)
        self.linear = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = nn.functional.hardswish(self.convolution(x))
        return self.linear(features.mean((2, 3))), features


def write(path: Path, *, opset: int = 18, open_sizes: bool = False, model: nn.Module | None = None, inputs=None) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is deprecated
        torch.onnx.export(
            (model or Net()).eval(),
            inputs or (torch.zeros(1, 3, 16, 16),),
            str(path),
            input_names=["input.1"],
            output_names=["scores", "features"][: 1 if model else 2],
            dynamic_axes={"input.1": {0: "batch", 2: "height", 3: "width"}} if open_sizes else None,
            opset_version=opset,
            dynamo=False,
        )
    return str(path)


def spec_of(file, **parts):
    return BuildSpec.model_validate(
        {
            "source": {"kind": "onnx", "file": file},
            "input": {"input_1": IMAGE},
            "precision": {"kind": "fp32"},
            "target": {"name": "ios15"},
            "tracking": {"kind": "none"},
        }
        | parts
    )


def load(file, **parts):
    spec = spec_of(file, **parts)
    return load_source(spec, make_examples(spec), Silent())


def worst_snr(spec, tmp_path) -> float:
    """Build as far as the artifact, execute it, and compare it with onnxruntime's results on every sample."""
    examples = make_examples(spec)
    prepared = prepare(load_source(spec, examples, Silent()), examples, spec)
    converted = convert(prepared, capture(prepared, examples, "onnx", {}), examples, spec)
    converted.model.save(str(tmp_path / f"m.{spec.format}"))
    artifact = runtime.load(tmp_path / f"m.{spec.format}")
    ratios = []
    for sample in examples.samples:
        predicted = artifact.predict(dict(sample.given))
        for name, expected in zip(prepared.output_names, prepared.reference(*sample.tensors.values()), strict=True):
            got = predicted[name]
            if isinstance(got, dict):
                got = torch.tensor([[got[label] for label in prepared.labels or ()]])
            ratios.append(compare(expected, got).snr_db)
    return min(ratios)


def test_the_module_computes_what_the_exported_model_computes(tmp_path):
    loaded = load(write(tmp_path / "m.onnx"))
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        expected = Net()(x)
    for got, wanted in zip(loaded.module(x).values(), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)  # another library's kernels, in float32


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"format": "mlmodel", "target": {"name": "ios13"}},
        {"classifier": {"labels": list("abcde")}, "output": {"probabilities": None, "features": None}},
        {"output": {"features": None}},
        {"output": {"features": None, "scores": None}},
    ],
)
def test_the_artifact_computes_what_onnxruntime_computes(tmp_path, parts):
    # fp32 artifacts differ by the order of sums alone: over 100 dB
    assert worst_snr(spec_of(write(tmp_path / "m.onnx"), **parts), tmp_path) > 100


def test_what_was_captured_reads_back_from_its_archive(tmp_path):
    # given
    spec = spec_of(write(tmp_path / "m.onnx"))
    examples = make_examples(spec)
    prepared = prepare(load_source(spec, examples, Silent()), examples, spec)
    # when captured twice
    first, again = tmp_path / "first", tmp_path / "again"
    read, _ = (archived(capture(prepared, examples, "onnx", {}), file) for file in (first, again))
    # then the archive is the same, so that later stages need not run again, and computes the same
    assert program_digest(first) == program_digest(again)
    x = examples.samples[1].tensors["input_1"]
    assert read is not None
    for got, wanted in zip(read.run(x), prepared.module(x), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_half_precision(tmp_path):
    # 11 bits a value, over five operators
    assert worst_snr(spec_of(write(tmp_path / "m.onnx"), precision={"kind": "fp16"}), tmp_path) > 50


@pytest.mark.parametrize("opset", [11, 13, 20])
def test_files_of_other_versions_of_the_operators(tmp_path, opset):
    assert worst_snr(spec_of(write(tmp_path / "m.onnx", opset=opset)), tmp_path) > 100


def test_open_dimensions_take_the_recipes_sizes_or_stay_open(tmp_path):
    file = write(tmp_path / "m.onnx", open_sizes=True)
    assert worst_snr(spec_of(file), tmp_path) > 100
    size = {"min": 8, "max": 32, "default": 16}
    flexible = {"input_1": {"kind": "tensor", "shape": [1, 3, size, size]}}
    (tmp_path / "flexible").mkdir()
    assert worst_snr(spec_of(file, input=flexible), tmp_path / "flexible") > 100


SPECTRA = """
    agraph (float[1, N] x) => (float[1, T, 9, 2] spectra, float[1, M] whole, float[1, K] round)
    <int64[1] forty = {40}, int64[4] last = {0, 0, 0, 1}, int64[4] ends = {0, 3, 0, 2}, int64 step = {4},
     int64 size = {16}, float[16] window = {0, 1, 2, 3, 4, 5, 6, 7, 8, 7, 6, 5, 4, 3, 2, 1}>
    {
        n = Shape <start: int = 1, end: int = 2> (x)
        missing = Sub(forty, n)
        amounts = Mul(missing, last)
        whole = Pad(x, amounts)
        round = Pad <mode: string = "wrap"> (x, ends)
        spectra = STFT <onesided: int = 1> (x, step, window, size)
    }
"""


def test_signals_of_any_length_are_padded_and_transformed_also_twice_in_one_process(tmp_path: Path) -> None:
    import onnx

    # given a file as those that prepare sound for models of speech
    file = str(tmp_path / "m.onnx")
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 19]> {SPECTRA}'), file)
    length = {"min": 16, "max": 39, "default": 24}
    spec = spec_of(file, input={"x": {"kind": "tensor", "shape": [1, length]}}, target={"name": "ios16"})
    # when it is converted, and once more: both call the open size the same
    assert worst_snr(spec, tmp_path) > 100
    assert worst_snr(spec, tmp_path) > 100
    # then sizes between give what onnxruntime gives
    artifact = runtime.load(tmp_path / "m.mlpackage")
    examples = make_examples(spec)
    reference = prepare(load_source(spec, examples, Silent()), examples, spec).reference
    for size in (16, 17, 31, 39):
        x = torch.randn(1, size, generator=torch.Generator().manual_seed(size))
        for got, wanted in zip(artifact.predict({"x": x.numpy()}).values(), reference(x), strict=True):
            torch.testing.assert_close(torch.from_numpy(got), wanted, rtol=1e-4, atol=1e-4)


class Indexing(nn.Module):
    """Operators that onnxsim lacks: ArgMax, Max of two, CumSum, Trilu, GatherElements."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        best = x.argmax(-1, keepdim=True)
        parts = [x.gather(-1, best), torch.maximum(x, x.flip(-1)), x.cumsum(-1), x.triu(1), x.tril(-1), x.ceil()]
        return torch.cat([*parts, best.float()], dim=-1)


def test_operators_that_onnxsim_lacks(tmp_path):
    file = write(tmp_path / "m.onnx", model=Indexing(), inputs=(torch.zeros(4, 4),))
    spec = spec_of(file, input={"input_1": {"kind": "tensor", "shape": [4, 4]}})
    assert worst_snr(spec, tmp_path) > 100


class Recurrent(nn.Module):
    """Two layers of LSTM, in one or both directions, and the last states."""

    def __init__(self, *, bidirectional: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sequence, (h, c) = self.lstm(x)
        return torch.cat([sequence.flatten(), h.flatten(), c.flatten()])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_lstm(tmp_path, bidirectional):
    model = Recurrent(bidirectional=bidirectional)
    file = write(tmp_path / "m.onnx", model=model, inputs=(torch.zeros(1, 7, 6),))
    spec = spec_of(file, input={"input_1": {"kind": "tensor", "shape": [1, 7, 6]}})
    assert worst_snr(spec, tmp_path) > 100


def test_an_operator_that_nobody_converts_is_named(tmp_path):
    class Determinant(nn.Module):
        def forward(self, x):
            return torch.det(x)

    file = write(tmp_path / "m.onnx", model=Determinant(), inputs=(torch.eye(6)[None],))
    spec = spec_of(file, input={"input_1": {"kind": "tensor", "shape": [1, 6, 6]}})
    with pytest.raises(ConversionError, match="Det"):
        worst_snr(spec, tmp_path)


def test_ids_of_int64_are_given_as_int32(tmp_path):
    file = write(tmp_path / "m.onnx", model=nn.Embedding(9, 4), inputs=(torch.zeros(1, 6, dtype=torch.int64),))
    ids = {"input_1": {"kind": "tensor", "shape": [1, 6], "dtype": "int32", "high": 9}}
    assert worst_snr(spec_of(file, input=ids), tmp_path) == float("inf")  # a table is only read


@pytest.mark.parametrize(
    ("parts", "said", "key"),
    [
        ({"input": {"input_2": IMAGE}}, "has no input input_2; it has input_1", "input.input_2"),
        (
            {"input": {"input_1": IMAGE | {"shape": [1, 3, 8, 16]}}},
            "takes input_1 of shape (1, 3, 16, 16), and the recipe gives (1, 3, 8, 16)",
            "input.input_1.shape",
        ),
        (
            {"input": {"input_1": {"kind": "tensor", "shape": [1, 3, 16, 16], "dtype": "int32", "high": 2}}},
            "takes input_1 as float, and the recipe gives int32",
            "input.input_1",
        ),
        ({"input": {"input_1": IMAGE, "mask": IMAGE}}, "has no input mask", "input.mask"),
    ],
)
def test_inputs_that_the_file_does_not_have(tmp_path, parts, said, key):
    with pytest.raises(SourceError, match=re.escape(said)) as raised:
        load(write(tmp_path / "m.onnx"), **parts)
    assert raised.value.key == key


@pytest.mark.parametrize("content", [b"", b"not ONNX at all", None])
def test_files_that_are_none(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(Path(write(path)).read_bytes()[:-300] if content is None else content)
    with pytest.raises(SourceError, match=r"damaged, or no ONNX file") as raised:
        load(str(path))
    assert raised.value.key == "source.file"


def test_without_the_packages_the_command_that_installs_them_is_told(tmp_path, monkeypatch):
    file = write(tmp_path / "m.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnxsim", None)
    with pytest.raises(UnfitEnvironmentError) as raised:
        load(file)
    assert raised.value.hint == "pip install 'coreml-builder[onnx]'"


def test_names_of_a_file_do_not_reach_the_terminal_as_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    # given an operator that fails, with a name that clears a terminal
    from onnx import TensorProto, helper

    node = helper.make_node("Reshape", ["x", "sizes"], ["y"], name="\x1b[2J")
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [3, 5])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b"])
    graph = helper.make_graph([node], "g", [x], [y], [sizes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    # when
    with pytest.raises(Exception, match="Reshape"):
        make_session(model).run(None, {"x": torch.ones(1, 8).numpy()})
    # then onnxruntime itself wrote nothing
    assert capfd.readouterr() == ("", "")
