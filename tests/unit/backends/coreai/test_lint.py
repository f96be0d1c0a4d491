"""The rules of Core AI's own trackers that look at operators and their types."""

from __future__ import annotations

from pathlib import Path

import torch

from builder.backends.coreai.conversion import Declared, Halves, convert
from builder.backends.coreai.lint import _round_trips, lint
from coreml_runtime.ops.context import TensorType
from coreml_runtime.program import Named, Operation, Reference
from tests.unit.backends.coreai.conftest import export


class Counting(torch.nn.Module):
    def forward(self, i: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return i.sum(1), (x + 64).long().float() - x.sum(1, keepdim=True)


def test_sums_of_integers_are_found_and_exact_casts_are_not(tmp_path: Path) -> None:
    inputs = torch.ones(2, 3, dtype=torch.int32), torch.rand(2, 3)
    declared = Declared(inputs={"i": "int32", "x": "float32"}, outputs={"a": None, "b": None})
    convert(export(Counting(), inputs), tmp_path / "m.aimodel", declared, None)
    found = {finding.rule: finding for finding in lint(tmp_path / "m.aimodel")}
    assert found["coreai_int64"].count == 1  # the sum of floats is not one of them
    assert found["coreai_int64"].sources
    assert "coreai_cast_round_trip" not in found  # ours cut off before they cast


def _cast(name: str, source: str, dtype: str) -> Operation:
    outputs = (Named(name=name, type=TensorType(dtype=dtype, shape=(2,))),)
    return Operation(type="cast", name=name, inputs={"x": (Reference(name=source),)}, outputs=outputs, blocks=())


def test_a_cast_to_integers_and_straight_back_is_found() -> None:
    first = Operation(
        type="exp",
        name="e",
        inputs={"x": (Reference(name="x"),)},
        outputs=(Named(name="e", type=TensorType(dtype="fp32", shape=(2,))),),
        blocks=(),
    )
    (found,) = _round_trips([first, _cast("whole", "e", "int32"), _cast("back", "whole", "fp32")])
    assert found.examples == ("back casts an integer back that was cast from a float",)
    assert not _round_trips([first, _cast("half", "e", "fp16"), _cast("back", "half", "fp32")])


class Headed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.hardswish(self.second(torch.nn.functional.hardswish(self.first(x)) + x))


def test_a_hardswish_of_a_product_is_found_in_half_precision_alone(tmp_path: Path) -> None:
    declared = Declared(inputs={"x": "float32"}, outputs={"y": None})
    for name, halves, count in (("half", Halves(), 2), ("full", None, 0)):
        asset = tmp_path / f"{name}.aimodel"
        convert(export(Headed(), (torch.rand(2, 4),)), asset, declared, halves)
        found = {finding.rule: finding.count for finding in lint(asset)}
        assert found.get("coreai_hardswish_of_a_product", 0) == count
