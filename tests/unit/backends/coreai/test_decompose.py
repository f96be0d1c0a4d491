"""Decompositions of a few operators give the program that torch makes of all: the same operators on the same values."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from builder.backends.coreai.decompose import decompose
from builder.backends.coreai.decompositions.table import decompositions
from tests.unit.backends.coreai.conftest import export

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own use of what it deprecates


class Remembers(nn.Module):
    """A state that is written, pieces of which several are used, and an output that the model also goes on with."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(2, 6))
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        given = self.linear(x)
        first, _, last = given.split(2, dim=1)
        self.seen.add_(given)  # type: ignore[operator]  # a buffer
        return given, first * last, self.seen.var(dim=1), torch.full((2,), 3.0) + last.amax(1)


class Turns(nn.Module):
    """`elu` of what lies transposed: what is written for it looks at strides."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.elu(x.transpose(1, 2)).reshape(-1)


CASES: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {
    "convolutions": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1)),
        (torch.rand(1, 3, 8, 8),),
    ),
    "attention": (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (torch.rand(1, 5, 16),)),
    "state": (Remembers(), (torch.rand(2, 6),)),
    "strides": (Turns(), (torch.randn(2, 3, 4),)),
    "recurrent": (nn.GRU(4, 6), (torch.rand(5, 1, 4),)),
}


def operators(program: ExportedProgram) -> list[tuple[str, Any]]:
    """The operators in their order, and the forms of what each gives."""
    forms = []
    for node in program.graph.nodes:
        if node.op == "call_function":
            values = torch.utils._pytree.tree_leaves(node.meta["val"])
            forms.append((str(node.target), [(tuple(v.shape), v.dtype) for v in values if isinstance(v, Tensor)]))
    return forms


@pytest.fixture(scope="module")
def table() -> dict[Any, Any]:
    """Apple's decompositions and ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # coreai-torch takes the local version of torch for a newer one
        return decompositions()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The operators that torch traces anew, a number for each time."""
    found: list[int] = []
    whole = ExportedProgram.run_decompositions

    def run(program: ExportedProgram, table: Any) -> ExportedProgram:
        found.append(sum(node.op == "call_function" for node in program.graph.nodes))
        return whole(program, table)

    monkeypatch.setattr(ExportedProgram, "run_decompositions", run)
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_program_is_the_one_that_torch_makes(name: str, table: dict[Any, Any]) -> None:
    # given a program without decompositions, twice
    torch.manual_seed(0)
    model, inputs = CASES[name]
    first, second = (export(copy.deepcopy(model), inputs) for _ in range(2))

    # when one is decomposed as a whole and one in parts
    expected, found = first.run_decompositions(dict(table)), decompose(second, table)

    # then operators, signature and values are the same, and the program still knows what it gives
    assert operators(found) == operators(expected)
    assert [spec.kind for spec in found.graph_signature.output_specs] == [
        spec.kind for spec in expected.graph_signature.output_specs
    ]
    found.validate()
    with torch.no_grad():
        for got, wanted in zip(found.module()(*inputs), expected.module()(*inputs), strict=True):
            assert torch.equal(got, wanted)


def test_equal_operators_are_traced_once(traced: list[int], table: dict[Any, Any]) -> None:
    # given twelve equal layers, each with a batch norm, which has no decomposition, behind a convolution, which has one
    layers = [layer for _ in range(12) for layer in (nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))]
    program = export(nn.Sequential(*layers), (torch.rand(1, 4, 5, 5),))
    traced.clear()

    # when
    decompose(program, table)

    # then
    assert traced == [1]


def test_open_sizes_are_traced_as_a_whole(traced: list[int], table: dict[Any, Any]) -> None:
    # given
    model, size = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)), Dim("size", min=4, max=32)
    program = export(model, (torch.rand(1, 3, 8, 8),), dynamic_shapes=(({2: size},),))
    traced.clear()

    # when
    found = decompose(program, table)

    # then the other size still works
    assert traced == [3]
    (got,) = found.module()(given := torch.rand(1, 3, 12, 8))
    assert torch.allclose(got, model(given), atol=1e-6)


def test_a_program_in_which_operators_write_is_traced_as_a_whole(traced: list[int], table: dict[Any, Any]) -> None:
    # given one that was never decomposed
    program = torch.export.export(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True)), (torch.rand(1, 3, 4, 4),))

    # when
    found = decompose(program, table)

    # then
    assert traced == [2]
    assert [name for name, _ in operators(found)] == ["aten.convolution.default", "aten.relu.default"]
