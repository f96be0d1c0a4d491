"""Every method of capture, what each freezes, and how `auto` finds that out."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from builder.artifacts.stages import LoadedModel
from builder.backends.coreml.convert import convert
from builder.checks.capture import check_capture
from builder.checks.subject import Subject
from builder.data import make_examples
from builder.errors import ConversionError
from builder.model.capture.methods import methods_to_try
from builder.progress import Silent
from builder.spec.checks import CaptureCheck
from builder.stages.capture import capture
from builder.stages.prepare import prepare
from tests.unit.stages.small_builds import make_spec

ARRAY = {"x": {"kind": "tensor", "shape": [1, 4]}}
METHODS = ["trace", "script", "export", "onnx"]
needs_onnx = pytest.mark.skipif(find_spec("onnxsim") is None, reason="optional packages")


class Branches(nn.Module):
    """Takes another way for negative values, which tracing freezes and export refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        if bool(x[0, 0] > 0):
            return y + 10.0
        return y * 3.0


class Named(nn.Module):
    """Returns a dictionary, whose order is not that of the recipe."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.linear(x)
        return {"sum": y + 1.0, "product": y * 2.0}


def prepared_with(module, **parts):
    torch.manual_seed(0)
    spec = make_spec(**({"input": ARRAY, "precision": {"kind": "fp32"}} | parts))
    examples = make_examples(spec)
    loaded = LoadedModel(module=module.eval(), digest="0" * 64, origin={})
    return prepare(loaded, examples, spec), examples, spec


@pytest.mark.parametrize("method", [pytest.param(m, marks=needs_onnx if m == "onnx" else ()) for m in METHODS])
def test_every_method_captures_and_converts_a_plain_model(method):
    prepared, examples, spec = prepared_with(Named(), output={"product": None, "sum": None})
    captured = capture(prepared, examples, method, {}, strict=True)
    converted = convert(prepared, captured, examples, spec)
    assert captured.method == method
    assert [output.name for output in converted.model._spec.description.output] == ["product", "sum"]
    inputs = (torch.randn(1, 4),)
    with torch.no_grad():
        for got, expected in zip(captured.run(*inputs), prepared.module(*inputs), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)  # the same products in another order


class OfOneSign(nn.Module):
    """Takes values of one sign alone, as an embedding takes numbers of its vocabulary."""

    positive: bool | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.positive is not None and bool(x[0, 0] > 0) != self.positive:
            raise IndexError("beyond the table")
        return x * 2.0


def test_values_that_inputs_declare_and_the_model_refuses_are_the_models_failure():
    # given a model that takes the first example and not all others
    prepared, examples, _ = prepared_with(OfOneSign())
    (module,) = [m for m in prepared.module.modules() if isinstance(m, OfOneSign)]
    module.positive = bool(examples.samples[0].tensors["x"][0, 0] > 0)
    # then
    with pytest.raises(
        ConversionError, match="does not run on values that its inputs declare: IndexError: beyond"
    ) as e:
        capture(prepared, examples, "trace", {}, strict=True)
    assert (e.value.code, e.value.key) == ("B0404", "input")


def test_a_frozen_branch_fails_a_method_that_auto_tries_and_script_keeps_it():
    # given examples of both signs
    prepared, examples, spec = prepared_with(Branches())
    signs = {bool(sample.tensors["x"][0, 0] > 0) for sample in examples.samples}
    assert signs == {True, False}
    # then
    with pytest.raises(ConversionError, match=r"trace froze something: on other inputs .*output: snr_db"):
        capture(prepared, examples, "trace", {}, strict=True)
    with pytest.raises(ConversionError, match="export failed"):
        capture(prepared, examples, "export", {}, strict=True)
    captured = capture(prepared, examples, "script", {"trace": "froze"}, strict=True)
    assert captured.failures == {"trace": "froze"}
    converted = convert(prepared, captured, examples, spec)
    assert "cond" in {op.op_type for op in converted.model._mil_program.functions["main"].operations}


def test_a_method_that_the_recipe_names_is_judged_by_the_capture_check_instead():
    prepared, examples, _ = prepared_with(Branches())
    assert capture(prepared, examples, "trace", {}).method == "trace"


def test_what_cannot_be_compiled_is_told_in_one_line():
    class Untyped(nn.Module):
        def forward(self, x):
            return sum([x, x * 2], start=torch.zeros(1)) if x.shape[0] else {1: object()}

    prepared, examples, _ = prepared_with(Untyped())
    with pytest.raises(ConversionError, match=r"^script failed: ") as raised:
        capture(prepared, examples, "script", {})
    assert "\n" not in raised.value.message
    assert raised.value.key == "capture.method"


@needs_onnx
class _Unpooled(nn.Module):
    """torch checks the sizes of its result, which a trace records."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        most, places = nn.functional.max_pool2d(x, 2, return_indices=True)
        return nn.functional.max_unpool2d(most, places, 2)


def test_sizes_that_torch_checks_are_traced():
    spec = make_spec(input={"x": {"kind": "tensor", "shape": [1, 2, 4, 6]}})
    examples = make_examples(spec)
    prepared = prepare(LoadedModel(module=_Unpooled(), digest="0" * 64, origin={}), examples, spec)
    captured = capture(prepared, examples, "trace", {}, strict=True)
    x = torch.randn(1, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    (unpooled,) = captured.program(x)
    torch.testing.assert_close(unpooled, _Unpooled()(x))
    assert "max_unpool2d" in {use.operator for use in convert(prepared, captured, examples, spec).lowerings}


def test_sizes_that_must_be_equal_are_named_with_the_remedy():
    class Sum(nn.Module):
        def forward(self, ids, mask):
            return ids + mask

    open_ = {"kind": "tensor", "shape": [1, {"min": 4, "max": 64, "default": 16}]}
    prepared, examples, _ = prepared_with(Sum(), input={"ids": open_, "mask": open_})
    with pytest.raises(ConversionError, match=r"ids.shape\[1\] and mask.shape\[1\] are not equal.*name: length"):
        capture(prepared, examples, "export", {})


def test_what_onnx_cannot_express_is_named():
    class Special(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    prepared, examples, _ = prepared_with(Special())
    with pytest.raises(ConversionError, match=r"onnx failed: .*special_bessel_j0"):
        capture(prepared, examples, "onnx", {})


@needs_onnx
def test_onnx_keeps_the_sizes_that_the_app_chooses():
    size = {"min": 2, "max": 9, "default": 4}
    model = nn.Sequential(nn.Conv1d(3, 4, 3, padding=1), nn.ReLU())
    prepared, examples, spec = prepared_with(model, input={"x": {"kind": "tensor", "shape": [1, 3, size]}})
    captured = capture(prepared, examples, "onnx", {}, strict=True)
    assert captured.run(torch.ones(1, 3, 7))[0].shape == (1, 4, 7)
    description = convert(prepared, captured, examples, spec).model._spec.description
    assert [r.upperBound for r in description.input[0].type.multiArrayType.shapeRange.sizeRanges] == [1, 3, 9]


@pytest.mark.parametrize(
    ("source", "method", "expected"),
    [
        ("python", "auto", ("trace", "export", "script")),
        ("python", "onnx", ("onnx",)),
        ("onnx", "auto", ("onnx",)),
        ("coreml", "auto", ("coreml",)),
        ("another format", "auto", ("export",)),  # the operators of the file, as torch has them
    ],
)
def test_which_methods_are_tried(source, method, expected):
    file = {"coreml": "m.mlpackage", "another format": "m.mlmodel"}.get(source, "m")
    where = {"factory": "a:b"} if source == "python" else {"file": file}
    kind = "coreml" if source == "another format" else source
    assert methods_to_try(make_spec(source={"kind": kind} | where, capture={"method": method})) == expected


class Counted(nn.Module):
    """Counts how often its code runs."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return x * 2.0


def test_what_capture_computed_on_the_other_examples_the_check_does_not_compute_again():
    # given a program that was compared with the model on the examples
    model = Counted()
    prepared, examples, spec = prepared_with(model)
    captured = capture(prepared, examples, "trace", {}, strict=True)
    (copied,) = (part for part in prepared.module.modules() if isinstance(part, Counted))
    before = copied.runs
    # when the check of capture takes the first of them
    subject = Subject(spec=spec, prepared=prepared, captured=captured, sealed=None, progress=Silent())
    report = check_capture("capture", CaptureCheck(kind="capture"), subject)
    # then the model has run for the captured one alone, and the verdict is of three samples
    assert (copied.runs, report.passed, report.samples) == (before + 1, True, 3)
    # and where they have another seed, it does
    others = replace(subject, spec=spec.model_copy(update={"seed": 1}))
    assert check_capture("capture", CaptureCheck(kind="capture"), others).passed
    assert copied.runs == before + 1 + 3


def test_a_trace_names_nothing_by_variables_of_ours():
    # given a model that returns what it computes; artifacts are the same bytes as long as its values keep their names
    prepared, examples, _ = prepared_with(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    # when it is traced, then torch has numbered its values, since no operator of ours touched them
    graph = capture(prepared, examples, "trace", {}).program.inlined_graph
    names = [value.debugName() for node in graph.nodes() if node.kind() == "aten::relu" for value in node.outputs()]
    assert len(names) == 1
    assert names[0].isdigit(), names


class Dropped(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.dropout(x, 0.5, self.training)


class Rest(nn.Module):
    """Its definition asks whether sizes are 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.remainder(x[:, :3], 0.7) + torch.fmod(x[:, 1:], 0.7)


class FullOfTruth(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.full((4,), True), x, -x)


class Split(nn.Module):
    """As many parts as a size says."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.split(3, 1)[0]


OPEN_BATCH = {"x": {"kind": "tensor", "shape": [{"min": 1, "max": 5, "default": 1}, 4]}}
OPEN_LENGTH = {"x": {"kind": "tensor", "shape": [1, {"min": 4, "max": 20, "default": 9}]}}


@pytest.mark.parametrize(("module", "inputs"), [(Dropped(), ARRAY), (Rest(), OPEN_BATCH)])
def test_export_takes_a_model_that_gives_its_input_and_a_batch_whose_default_is_one(module, inputs):
    prepared, examples, spec = prepared_with(module, input=inputs)
    captured = capture(prepared, examples, "export", {}, strict=True)
    assert convert(prepared, captured, examples, spec).model is not None


@pytest.mark.parametrize(
    ("module", "inputs", "said"),
    [
        (FullOfTruth(), ARRAY, r"torch itself knows no aten::full of such arguments: int\[\], bool"),
        (
            Split(),
            OPEN_LENGTH,
            r"trace froze a size: .* RuntimeError: Expected 3 elements in a list but found 7",
        ),
    ],
)
def test_what_torch_says_of_a_trace_is_told_in_its_own_last_words(module, inputs, said):
    prepared, examples, _ = prepared_with(module, input=inputs)
    with pytest.raises(ConversionError, match=said):
        capture(prepared, examples, "trace", {}, strict=True)
