"""Loops by Apple's interpreter: what a turn carries to the next is not where that computes something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from builder.backends.coreai import engine
from builder.backends.coreai.conversion import Declared, convert
from coreml_runtime.ops.recurrent import iterate

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch.export itself

Step = Callable[[torch.nn.Linear, torch.Tensor, torch.Tensor], torch.Tensor]


def _gates(linear: torch.nn.Linear, given: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """A GRU's step, as torch has it."""
    product = linear(h)
    r, z = torch.sigmoid(given[:, :8] + product[:, :8]).chunk(2, dim=1)
    n = torch.tanh(given[:, 8:] + r * product[:, 8:])
    return (1 - z) * n + z * h


STEPS: dict[str, Step] = {
    "gru": _gates,
    "sum": lambda linear, given, h: linear(h)[:, :4] * linear(h)[:, 4:8] + h + given[:, :4] * 0,
    "product": lambda linear, _, h: linear(h)[:, :4] * linear(h)[:, 4:8] * h,
    "view": lambda linear, given, h: (linear(h) + given)[:, 4:8].clone(memory_format=torch.contiguous_format),
}


class Loops(torch.nn.Module):
    """All steps over one sequence, each in a loop of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linears = torch.nn.ModuleList(torch.nn.Linear(4, 12) for _ in STEPS)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self._of(x, step, linear) for step, linear in zip(STEPS.values(), self.linears, strict=True))

    @staticmethod
    def _of(x: torch.Tensor, step: Step, linear: torch.nn.Module) -> torch.Tensor:
        sequence, _ = iterate(lambda given, h: (step(linear, given, h),), x, (x.new_zeros(1, 4) + 0.3,))  # type: ignore[arg-type]  # a Linear
        return sequence


def test_what_a_loop_carries_is_right_after_the_second_turn(tmp_path: Path) -> None:
    model, x = Loops().eval(), torch.randn(5, 1, 12, generator=torch.Generator().manual_seed(1))
    shapes = ({0: torch.export.Dim("length", min=2, max=30)},)
    program = torch.export.export(model, (x,), dynamic_shapes=shapes).run_decompositions({})
    declared = Declared(inputs={"x": "float32"}, outputs=dict.fromkeys(STEPS, "float32"))
    convert(program, tmp_path / "loops.aimodel", declared, None)
    longer = torch.randn(7, 1, 12, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = dict(zip(STEPS, model(longer), strict=True))
    (found,), _ = engine.predict(tmp_path / "loops.aimodel", [{"x": longer.numpy()}])
    for name, wanted in expected.items():
        torch.testing.assert_close(torch.from_numpy(found[name]), wanted, rtol=1e-5, atol=1e-6, msg=name)
