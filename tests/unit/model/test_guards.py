"""Exports at open sizes where torch.export does not see that code runs in one way at all of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch._dynamo.exc import UserError

from builder.model.capture.guards import export_program

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch.export itself
OPEN = ({1: torch.export.Dim("length", min=10, max=60)},)


class Of(torch.nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def halved_if_even(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(1, 2, -1, 4) if x.shape[1] % 2 == 0 else x


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, x.shape[1] // 2 :],
        lambda x: x[:, : x.shape[1] // 2],
        lambda x: x[:, : math.ceil(x.shape[1] / 3)],
        lambda x: x * math.floor(x.shape[1] / 4),
        lambda x: x[:, 3:] * x.shape[1],
    ],
)
def test_conditions_that_hold_at_every_size_are_left_out(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    program = export_program(Of(function), (torch.randn(1, 20, 4),), OPEN)
    assert not any(
        "assert" in str(node.target) or node.target in (math.ceil, math.floor) for node in program.graph.nodes
    )
    for size in (10, 20, 37, 60):
        x = torch.randn(1, size, 4)
        torch.testing.assert_close(program.module(check_guards=False)(x), function(x))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * 2 if x.shape[1] > 30 else x,
        lambda x: x[:, : int(x.shape[1] * 0.5)],
        halved_if_even,
    ],
)
def test_a_condition_that_some_size_breaks_is_refused(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(UserError, match="Constraints violated"):
        export_program(Of(function), (torch.randn(1, 20, 4),), OPEN)


def test_a_remainder_is_found_in_a_range_of_which_not_all_is_tried() -> None:
    wide = ({1: torch.export.Dim("length", min=10, max=8200)},)  # 4,096 evenly spread ones are all even
    with pytest.raises(UserError, match="Constraints violated"):
        export_program(Of(halved_if_even), (torch.randn(1, 20, 4),), wide)
