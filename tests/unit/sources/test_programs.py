"""Programs that were captured elsewhere: TorchScript archives and exported programs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from builder.analysis.init import inspect_source
from builder.data import make_examples
from builder.errors import SourceError
from builder.model.sources import load_source
from builder.progress import Silent
from builder.spec import BuildSpec
from builder.stages.capture import capture
from builder.stages.prepare import prepare

X = {"kind": "tensor", "shape": [1, 3, 8, 8]}


class TwoInputs(nn.Module):
    """Takes a picture and a vector, and treats them differently."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.convolution(x).relu()
        return features.mean((2, 3)) * weights, features


@pytest.fixture
def model() -> TwoInputs:
    torch.manual_seed(0)
    return TwoInputs().eval()


EXAMPLE = (torch.ones(1, 3, 8, 8), torch.ones(1, 4))
WEIGHTS = {"kind": "tensor", "shape": [1, 4]}


def write(model: nn.Module, kind: str, folder: Path) -> Path:
    if kind == "torchscript":
        torch.jit.script(model).save(str(folder / "m.pt"))
        return folder / "m.pt"
    torch.export.save(torch.export.export(model, EXAMPLE), folder / "m.pt2")
    return folder / "m.pt2"


def spec_of(source, **inputs):
    return BuildSpec.model_validate(
        {
            "source": source,
            "input": inputs or {"x": X, "weights": WEIGHTS},
            "precision": {"kind": "fp32"},
            "target": {"name": "ios15"},
            "tracking": {"kind": "none"},
        }
    )


def load(source, **inputs):
    spec = spec_of(source, **inputs)
    return load_source(spec, make_examples(spec), Silent())


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch.jit.script itself

KINDS = ("torchscript", "exported_program")


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_computes_what_its_model_computes(kind, model, tmp_path):
    # given
    loaded = load({"kind": kind, "file": str(write(model, kind, tmp_path))})
    inputs = (torch.randn(1, 3, 8, 8), torch.randn(1, 4))
    # then: the same kernels, so the same bits
    with torch.no_grad():
        for got, expected in zip(loaded.module(*inputs), model(*inputs), strict=True):
            assert torch.equal(got, expected)
    assert re.fullmatch("sha256:[0-9a-f]{64}", loaded.digest)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_named_as_the_program_names_them_may_stand_in_any_order(kind, model, tmp_path):
    # given
    spec = spec_of({"kind": kind, "file": str(write(model, kind, tmp_path))}, weights=WEIGHTS, x=X)
    examples = make_examples(spec)
    # when
    prepared = prepare(load_source(spec, examples, Silent()), examples, spec)
    # then
    weights, x = examples.samples[0].tensors.values()
    with torch.no_grad():
        assert torch.equal(prepared.module(weights, x)[0], model(x, weights)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("write_other", "said", "hint"),
    [
        (lambda m, p: torch.save(m.state_dict(), p), "is a checkpoint of torch.save", "kind: checkpoint"),
        (lambda m, p: torch.save(m, p), "is a checkpoint of torch.save", "kind: checkpoint"),
        (lambda m, p: p.write_bytes(b""), "is empty", "again"),
        (lambda m, p: p.write_bytes(b"no program at all"), "is damaged", "again"),
    ],
)
def test_other_files_are_named(kind, model, tmp_path, write_other, said, hint):
    path = tmp_path / "m.bin"
    write_other(model, path)
    with pytest.raises(SourceError, match=said) as raised:
        load({"kind": kind, "file": str(path)})
    assert hint in (raised.value.hint or "")


@pytest.mark.parametrize(("kind", "other"), [KINDS, KINDS[::-1]])
def test_each_knows_the_other(kind, other, model, tmp_path):
    with pytest.raises(SourceError) as raised:
        load({"kind": kind, "file": str(write(model, other, tmp_path))})
    assert raised.value.hint == f"write `kind: {other}`"
    assert raised.value.key == "source.kind"


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_not_loaded(kind, model, tmp_path):
    path = tmp_path / "cut"
    path.write_bytes(write(model, kind, tmp_path).read_bytes()[:-200])
    with pytest.raises(SourceError, match="damaged"):
        load({"kind": kind, "file": str(path)})


@pytest.mark.parametrize("kind", KINDS)
def test_another_number_of_inputs(kind, model, tmp_path):
    with pytest.raises(SourceError, match=re.escape("takes 2 input(s) (x, weights), and the recipe gives 1")) as raised:
        load({"kind": kind, "file": str(write(model, kind, tmp_path))}, x=X)
    assert raised.value.key == "input"


@pytest.mark.parametrize("kind", KINDS)
def test_another_number_of_inputs_by_the_names_of_the_program(kind, model, tmp_path):
    renamed = {"picture": X | {"source_name": "x"}}
    with pytest.raises(SourceError, match=re.escape("and the recipe gives 1 (x)")):
        load({"kind": kind, "file": str(write(model, kind, tmp_path))}, **renamed)


@pytest.mark.parametrize("kind", KINDS)
def test_another_digest(kind, model, tmp_path):
    with pytest.raises(SourceError, match="the recipe expects 0000") as raised:
        load({"kind": kind, "file": str(write(model, kind, tmp_path)), "sha256": "0" * 64})
    assert raised.value.key == "source.sha256"


@pytest.mark.parametrize(
    ("change", "said", "key"),
    [
        ({"x": X | {"shape": [1, 3, 9, 8]}}, "of shape (1, 3, 8, 8), and the recipe gives x as (1, 3, 9, 8)", "shape"),
        ({"x": X | {"shape": [1, 3, 8]}}, "the recipe gives x as (1, 3, 8)", "shape"),
        ({"x": X | {"dtype": "int32", "high": 9}}, "takes x as float32, and the recipe gives x as int32", "dtype"),
    ],
)
def test_shapes_and_dtypes_that_an_exported_program_cannot_take(model, tmp_path, change, said, key):
    with pytest.raises(SourceError, match=re.escape(said)) as raised:
        load(
            {"kind": "exported_program", "file": str(write(model, "exported_program", tmp_path))},
            **({"x": X, "weights": WEIGHTS} | change),
        )
    assert raised.value.key == f"input.x.{key}"


def test_open_dimensions_of_an_exported_program_take_any_size(model, tmp_path):
    # given
    size = torch.export.Dim("size", min=6, max=64)
    program = torch.export.export(model, EXAMPLE, dynamic_shapes=({2: size, 3: size}, None))
    torch.export.save(program, tmp_path / "m.pt2")
    # when
    source = {"kind": "exported_program", "file": str(tmp_path / "m.pt2")}
    loaded = load(source, x=X | {"shape": [1, 3, 12, 12]}, weights=WEIGHTS)
    # then
    with torch.no_grad():
        assert loaded.module(torch.ones(1, 3, 12, 12), torch.ones(1, 4))[1].shape == (1, 4, 10, 10)


def test_a_program_exported_in_training_mode_is_refused(tmp_path):
    program = torch.export.export(nn.Sequential(nn.Linear(3, 3), nn.Dropout()).train(), (torch.ones(1, 3),))
    torch.export.save(program, tmp_path / "m.pt2")
    with pytest.raises(SourceError, match=r"training mode \(dropout"):
        load({"kind": "exported_program", "file": str(tmp_path / "m.pt2")}, x={"kind": "tensor", "shape": [1, 3]})


class Numbers(nn.Module):
    """Takes numbers of Python beside an array."""

    def forward(self, x: torch.Tensor, factor: int, add: bool) -> torch.Tensor:
        return x * factor + 1 if add else x * factor


class Remembers(nn.Module):
    """Keeps a tensor in an attribute that is not a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.zeros(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = self.last
        self.last = x
        return x + before.sum()


def test_numbers_of_a_script_are_constants_of_the_recipe(tmp_path):
    # given a program that takes numbers
    torch.jit.script(Numbers()).save(str(tmp_path / "m.jit"))
    source = {"kind": "torchscript", "file": str(tmp_path / "m.jit")}
    array = {"kind": "tensor", "shape": [1, 4]}
    # when one is given as an array, then what to write is said before anything is captured
    with pytest.raises(SourceError, match=r"takes factor as a number \(int\)") as raised:
        load(
            source,
            x=array,
            factor={"kind": "tensor", "shape": [1], "dtype": "int32", "high": 4},
            add={"constant": True},
        )
    assert raised.value.hint == "write `factor: {constant: …}` with the value for which the artifact is made"
    # when they are constants, then both are in the program that is captured
    spec = spec_of(source, x=array, factor={"constant": 3}, add={"constant": True})
    examples = make_examples(spec)
    prepared = prepare(load_source(spec, examples, Silent()), examples, spec)
    captured = capture(prepared, examples, "trace", {}, strict=True)
    x = torch.randn(1, 4)
    torch.testing.assert_close(captured.run(x)[0], x * 3 + 1)


def test_a_script_that_keeps_something_in_an_attribute_is_refused(tmp_path):
    torch.jit.script(Remembers()).save(str(tmp_path / "m.jit"))
    with pytest.raises(SourceError, match="keeps last from one call to the next in an attribute"):
        load({"kind": "torchscript", "file": str(tmp_path / "m.jit")}, x={"kind": "tensor", "shape": [1, 4]})


def test_a_program_in_half_precision_is_computed_in_float32(tmp_path: Path) -> None:
    # given a program that casts to half and back, with weights and a constant in half
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 3).half()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.convolution(x.half()) * torch.tensor([0.3], dtype=torch.float16)).float()

    torch.manual_seed(0)
    half = Half().eval()
    torch.export.save(torch.export.export(half, EXAMPLE[:1]), tmp_path / "m.pt2")

    # when
    loaded = load({"kind": "exported_program", "file": str(tmp_path / "m.pt2")}, x=X)

    # then
    values = [*loaded.module.parameters(), *loaded.module.buffers()]
    assert {value.dtype for value in values} == {torch.float32}
    x = torch.rand(1, 3, 8, 8)
    weight, bias = (value.detach().float() for value in half.convolution.parameters())
    expected = nn.functional.conv2d(x, weight, bias) * torch.tensor([0.3], dtype=torch.float16).float()
    assert torch.allclose(loaded.module(x), expected, atol=1e-6)


class Nested(nn.Module):
    """Takes a list with a dictionary in it, a number, and one by name alone."""

    def forward(self, pair: list, times: int, *, shift: torch.Tensor) -> torch.Tensor:
        return (pair[0] - pair[1]["other"]) * times + shift


def test_lists_dictionaries_and_numbers_that_a_program_was_exported_with(tmp_path):
    # given a program of nested inputs, and a number that it has as a constant
    program = torch.export.export(
        Nested(), ([torch.zeros(2, 3), {"other": torch.ones(2, 3)}], 3), {"shift": torch.zeros(1)}
    )
    torch.export.save(program, tmp_path / "model.pt2")
    # when `init` drafts its recipe, then that has each tensor by its name, and the module takes them so
    drafted = inspect_source(str(tmp_path / "model.pt2"), tmp_path).inputs
    assert list(drafted) == ["pair_0", "pair_1_other", "shift"]
    loaded = load({"kind": "exported_program", "file": str(tmp_path / "model.pt2")}, **drafted)
    first, other, shift = torch.randn(2, 3), torch.randn(2, 3), torch.randn(1)
    torch.testing.assert_close(loaded.module(first, other, shift), (first - other) * 3 + shift)


class Open(nn.Module):
    """Takes a number."""

    def forward(self, x: torch.Tensor, times: int) -> torch.Tensor:
        return x * times


def test_a_number_that_a_program_leaves_open_is_refused(tmp_path):
    sizes = {"x": None, "times": torch.export.Dim.DYNAMIC}
    program = torch.export.export(Open(), (torch.zeros(2, 3), 3), dynamic_shapes=sizes)
    torch.export.save(program, tmp_path / "model.pt2")
    with pytest.raises(SourceError, match="takes times as a number that is open"):
        load({"kind": "exported_program", "file": str(tmp_path / "model.pt2")}, x={"kind": "tensor", "shape": [2, 3]})


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_script_of_another_precision_is_computed_in_float32(dtype, model, tmp_path):
    with torch.no_grad():
        script = torch.jit.trace(model.to(dtype), (torch.zeros(1, 3, 8, 8, dtype=dtype), torch.ones(1, 4, dtype=dtype)))
    script.save(str(tmp_path / "model.pt"))
    loaded = load({"kind": "torchscript", "file": str(tmp_path / "model.pt")}, x=X, weights=WEIGHTS)
    x, weights = torch.randn(1, 3, 8, 8), torch.rand(1, 4)
    with torch.no_grad():
        wanted, got = model.float()(x, weights), loaded.module(x, weights)
    torch.testing.assert_close(got, wanted)
    assert got[0].dtype == torch.float32


@pytest.mark.filterwarnings(
    "ignore:.*torch.ao.quantization:DeprecationWarning", "ignore:torch.quantize_per_tensor:UserWarning"
)
def test_a_quantized_script_is_refused_with_what_to_take_instead(tmp_path):
    plain = nn.Sequential(nn.Linear(8, 4), nn.ReLU()).eval()
    quantized = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear})
    torch.jit.save(torch.jit.script(quantized), tmp_path / "model.pt")
    with pytest.raises(SourceError, match="it is quantized") as refused:
        load({"kind": "torchscript", "file": str(tmp_path / "model.pt")}, x={"kind": "tensor", "shape": [1, 8]})
    assert "`- compression: int8` in the defaults list" in (refused.value.hint or "")
