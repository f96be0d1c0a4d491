"""Exports at open sizes where torch.export does not see that code runs in one way at all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._sympy.value_ranges import ValueRanges

from builder.errors import ConversionError
from builder.model.capture.conditions import Exceptions, environment_of, exceptions, open_sizes, places_of
from builder.model.capture.guards import export_narrowly, export_program
from builder.model.capture.rewritten import check_rewritten

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch.export itself
OPEN = (({1: torch.export.Dim("length", min=10, max=60)},),)
WIDE: Any = ({1: (10, 8200)},)


class Of(torch.nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(*inputs)


def shorter(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    size = min(x.shape[2], y.shape[2])
    return x[:, :, -size:] + y[:, :, :size]


RANGES = ({2: (4, 9)}, {2: (4, 9)})
TWO = (({2: torch.export.Dim("one", min=4, max=9)}, {2: torch.export.Dim("two", min=4, max=9)}),)


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
    assert not _found(program, ({1: (10, 60)},))
    assert not any(
        "assert" in str(node.target) or node.target in (math.ceil, math.floor) for node in program.graph.nodes
    )
    for size in (10, 20, 37, 60):
        x = torch.randn(1, size, 4)
        torch.testing.assert_close(program.module(check_guards=False)(x), function(x))


@pytest.mark.parametrize(
    ("function", "shown"),
    [
        (lambda x: x * 2 if x.shape[1] > 30 else x, "x.shape[1] <= 30, which is false for x.shape[1] = 31"),
        (lambda x: x * 2 if x.shape[1] == 8001 else x, "x.shape[1] != 8001, which is false for x.shape[1] = 8001"),
        (lambda x: x * 2 if x.shape[1] % 997 == 5 else x, "x.shape[1] = 1002"),
        (halved_if_even, "x.shape[1] = 11"),
    ],
)
def test_a_condition_that_some_size_breaks_is_found(
    function: Callable[[torch.Tensor], torch.Tensor], shown: str
) -> None:
    assert shown in " ".join(each.shown() for each in _exceptions(function, WIDE, torch.randn(1, 20, 4)))


def test_a_number_that_torch_makes_of_a_size_is_found() -> None:
    found = _exceptions(lambda x: x[:, : int(x.shape[1] * 0.5)], WIDE, torch.randn(1, 20, 4))
    assert found[0].shown() == "math.trunc(0.5*torch.sym_float(x.shape[1])) == 10, which is false for x.shape[1] = 10"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, int(x.shape[1] * 0.3) :] + int(x.shape[1] / 3),
        lambda x: x * math.ceil(x.shape[1] * 1.5) + math.floor(0.7 * x.shape[1]),
        lambda x: x + int(x.shape[1] / 2.5),
    ],
)
def test_a_share_of_a_size_is_computed_in_integers(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    program = export_program(Of(function), (torch.randn(1, 20, 4),), OPEN, strict=True)
    assert not {math.trunc, math.ceil, math.floor} & {node.target for node in program.graph.nodes}
    for size in range(10, 61):
        x = torch.randn(1, size, 4)
        torch.testing.assert_close(program.module(check_guards=False)(x), function(x))


def test_conditions_are_held_against_all_combinations_of_sizes() -> None:
    """Torch takes `min` of two sizes that are alike in the example for either, and says nothing."""
    program = export_program(Of(shorter), (torch.randn(1, 2, 6), torch.randn(1, 2, 6)), TWO)
    found = _found(program, RANGES)
    assert len(found) == 2
    assert all(each.are_all and len(each.sizes) == 15 for each in found), "the pairs of which one is the smaller"


def test_a_rewriting_that_takes_a_condition_for_true_is_found() -> None:
    """Torch asks while it rewrites whether `a` is `min(a, b)`, and takes one size for the other then."""
    program = export_program(Of(shorter), (torch.randn(1, 2, 6), torch.randn(1, 2, 6)), TWO)
    places = open_sizes(program)
    rewritten = program.run_decompositions({})
    with pytest.raises(ConversionError, match=r"take for true that .*, which is false for .*x.shape\[2\] = 5"):
        check_rewritten(program, places, rewritten, ["x", "y"])


def test_sizes_that_the_program_refuses_itself_break_no_condition() -> None:
    program = export_program(Of(lambda x: torch.cat([x[:, ::2], x[:, 1::2]], 2) + 1), (torch.randn(1, 20, 4),), OPEN)
    places = open_sizes(program)
    rewritten = program.run_decompositions({})
    assert _found(rewritten, ({1: (10, 60)},)), "half of the sizes are odd"
    check_rewritten(program, places, rewritten, ["x"])


@pytest.mark.parametrize("size", range(20, 101, 7))
def test_a_quotient_below_zero_is_rounded_towards_zero(size: int) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x + math.trunc((x.shape[1] - 50) * (x.shape[1] - 60) / 7)

    open_to_100 = (({1: torch.export.Dim("length", min=20, max=100)},),)
    program = export_program(Of(function), (torch.zeros(1, 80),), open_to_100)
    x = torch.zeros(1, size)
    torch.testing.assert_close(program.module(check_guards=False)(x), function(x))


def _exceptions(function: Callable[[torch.Tensor], torch.Tensor], ranges: Any, x: torch.Tensor) -> list[Exceptions]:
    return _found(export_narrowly(Of(function), (x,), ranges), ranges)


def _found(program: Any, ranges: Any) -> list[Exceptions]:
    environment = environment_of(program)
    places = places_of(environment)
    declared = {places[at, axis]: ValueRanges(*ends) for at, sizes in enumerate(ranges) for axis, ends in sizes.items()}
    return list(exceptions(environment, places, declared, ["x", "y"]))
