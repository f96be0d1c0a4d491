"""Multiply-accumulates of ten layers of each kind, in each format: equal to torch's own counter, and to hand counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from builder.analysis.costs.analyse import analyse_costs
from builder.analysis.costs.products import Operands, macs
from builder.artifacts.costs import Costs
from tests.runtime.programs import save_program
from tests.unit.costs import layers

Shapes = tuple[tuple[int, ...], ...]
KINDS: dict[str, tuple[Callable[[], nn.Module], Shapes]] = {
    "convolutions": (layers.convolutions, ((1, 4, 12, 16),)),
    "transposed": (layers.transposed, ((1, 4, 5, 6),)),
    "linears": (layers.linears, ((2, 3, 8),)),
    "products": (layers.Products, ((2, 3, 4, 6), (2, 3, 6, 5))),
    "attention": (layers.Attention, ((2, 3, 7, 8), (2, 3, 9, 8), (2, 3, 9, 4))),
}
FORMATS: dict[str, dict[str, Any]] = {
    "program": {"convert_to": "mlprogram", "minimum_deployment_target": ct.target.iOS18},
    "network": {"convert_to": "neuralnetwork"},
}


def by_torch(module: nn.Module, given: list[torch.Tensor]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*given)
    return int(counter.get_total_flops()) // 2


@pytest.mark.filterwarnings("ignore")  # coremltools renames outputs aloud, torch warns of padding that it copies
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_layers_cost_what_torch_counts(kind: str, format_: str, tmp_path: Path) -> None:
    # given ten layers
    make, shapes = KINDS[kind]
    module, given = make().eval(), [torch.randn(shape) for shape in shapes]
    expected = by_torch(module, given)
    assert expected > 0
    # when they are converted
    traced = torch.jit.trace(module, given)
    model = ct.convert(traced, inputs=[ct.TensorType(shape=shape) for shape in shapes], **FORMATS[format_])
    path = tmp_path / ("m.mlpackage" if format_ == "program" else "m.mlmodel")
    model.save(str(path))
    # then the file costs the same, all of it known
    (costs,) = analyse_costs(path)
    assert (costs.macs, costs.unknown, costs.not_counted) == (expected, 0, "")


def weight(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float16)


def cost(tmp_path: Path, build: Callable[..., Any], shapes: dict[str, tuple[int, ...]]) -> Costs:
    values = {name: (shape, "fp16") for name, shape in shapes.items()}
    (found,) = analyse_costs(save_program(tmp_path, build, values, precision="fp16"))
    return found


def costs(found: Costs, kind: str) -> list[int | None]:
    return [each.macs for each in found.operators if each.operator == kind]


EINSUMS = {
    "ij,jk->ik": ((2, 3), (3, 4)),
    "ij,kj": ((2, 3), (4, 3)),
    "bij,bjk->bik": ((5, 2, 3), (5, 3, 4)),
    "bhid,bhjd->bhij": ((2, 3, 4, 5), (2, 3, 6, 5)),
    "abcd,adce->abce": ((2, 3, 4, 5), (2, 5, 4, 6)),
    "...ij,...jk->...ik": ((2, 3, 4, 5), (2, 3, 5, 6)),
    "ijk,jl->il": ((2, 3, 4), (3, 5)),
    "i,j->ij": ((3,), (4,)),
    "bi,bj,bk->bijk": ((2, 3), (2, 4), (2, 5)),
    "ij,jk,kl->il": ((2, 3), (3, 4), (4, 5)),
}


@pytest.mark.parametrize("equation", EINSUMS)
def test_einsums_cost_the_products_of_what_they_multiply(equation: str) -> None:
    shapes = EINSUMS[equation]

    class Einsum(nn.Module):
        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            return torch.einsum(equation, *given)

    expected = by_torch(Einsum(), [torch.ones(shape) for shape in shapes])
    if equation == "bi,bj,bk->bijk":  # torch multiplies without a product of matrices, which its counter does not see
        expected = 2 * 3 * 4 + 2 * 3 * 4 * 5
    elif equation == "i,j->ij":
        expected = 12
    operands = Operands(shapes={"values": shapes}, constants={"equation": equation}, output=None)
    assert macs("einsum", operands) == expected


def test_an_einsum_of_a_file(tmp_path: Path) -> None:
    def build(x: Any, y: Any) -> Any:
        return mb.einsum(values=(x, y), equation="nchw,nwhu->nchu")

    assert costs(cost(tmp_path, build, {"x": (2, 3, 4, 5), "y": (2, 5, 4, 6)}), "einsum") == [2 * 3 * 4 * 5 * 6]


RECURRENT = [(5, 1, 3, 4), (1, 2, 3, 4), (7, 3, 2, 2), (2, 1, 8, 1), (3, 2, 1, 6)]
"""Steps, batch, inputs, hidden units."""


@pytest.mark.parametrize(("kind", "gates"), [("lstm", 4), ("gru", 3), ("rnn", 1)])
def test_recurrent_layers_cost_their_matrices_at_each_step(kind: str, gates: int, tmp_path: Path) -> None:
    # given five layers, with all outputs and the last one only
    expected = []

    def build(**inputs: Any) -> Any:
        outputs = []
        for index, (steps, batch, size, hidden) in enumerate(RECURRENT):
            for all_ in (True, False):
                state = {"initial_h": weight(batch, hidden)}
                state |= {"initial_c": weight(batch, hidden)} if kind == "lstm" else {}
                given = {"weight_ih": weight(gates * hidden, size), "weight_hh": weight(gates * hidden, hidden)}
                made = getattr(mb, kind)(x=inputs[f"x{index}"], output_sequence=all_, **state, **given)
                outputs.append(made[0])
                expected.append(steps * batch * gates * hidden * (size + hidden))
        return tuple(outputs)

    shapes = {f"x{index}": (steps, batch, size) for index, (steps, batch, size, _) in enumerate(RECURRENT)}
    # then each step of each takes its matrices
    found = cost(tmp_path, build, shapes)
    assert costs(found, kind) == expected


def test_both_directions_of_an_lstm_count(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        both = {
            f"weight_{name}{end}": weight(8, size) for name, size in (("ih", 3), ("hh", 2)) for end in ("", "_back")
        }
        state = {"initial_h": weight(1, 4), "initial_c": weight(1, 4)}
        return mb.lstm(x=x, direction="bidirectional", output_sequence=True, **state, **both)[0]

    assert cost(tmp_path, build, {"x": (6, 1, 3)}).macs == 6 * 2 * (8 * 3 + 8 * 2)


@pytest.mark.filterwarnings("ignore")
def test_recurrent_layers_of_a_neural_network(tmp_path: Path) -> None:
    # given an LSTM in both directions and a GRU's cousin, over 5 steps of 3
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 4, bidirectional=True)
            self.plain = nn.LSTM(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.plain(self.lstm(x)[0])[0]
            return found

    traced = torch.jit.trace(Net().eval(), torch.zeros(5, 2, 3))
    model = ct.convert(traced, inputs=[ct.TensorType(shape=(5, 2, 3))], convert_to="neuralnetwork")
    model.save(str(tmp_path / "m.mlmodel"))
    # then
    (found,) = analyse_costs(tmp_path / "m.mlmodel")
    assert found.macs == 5 * 2 * (2 * 16 * (3 + 4) + 8 * (8 + 2))
    assert found.unknown == 0
