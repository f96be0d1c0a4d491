"""Branches, loops and lists."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from coreml_runtime.ops.control_flow import (
    cond,
    list_gather,
    list_length,
    list_read,
    list_scatter,
    list_write,
    make_list,
    while_loop,
)
from coreml_runtime.ops.table import ListValue
from tests.runtime.contexts import make_context


@pytest.mark.parametrize(("pred", "expected"), [(True, 0), (False, 1)])
def test_cond_runs_one_block_only(pred: bool, expected: int) -> None:
    # given
    ran: list[int] = []

    def run_block(index: int, *arguments: Any) -> tuple[Any, ...]:
        ran.append(index)
        return (torch.tensor(index),)

    # when
    (result,) = cond(pred=pred, context=make_context(run_block=run_block))

    # then
    assert ran == [expected]
    assert int(result) == expected


def test_while_loop_carries_values_until_the_condition_fails() -> None:
    # given
    def run_block(index: int, count: torch.Tensor, total: torch.Tensor) -> tuple[Any, ...]:
        return (count < 4,) if index == 0 else (count + 1, total + count)

    # when
    count, total = while_loop(loop_vars=(torch.tensor(0), torch.tensor(10)), context=make_context(run_block=run_block))

    # then
    assert (int(count), int(total)) == (4, 16)


def test_a_list_starts_with_zeros_grows_and_is_gathered() -> None:
    # given: the steps of Apple's test of lists
    start = make_list(elem_shape=(torch.tensor(2),), init_length=2, context=make_context())

    # when
    written = list_write(ls=start, index=0, value=torch.tensor([1.0, 3.0]))
    grown = list_write(ls=written, index=4, value=torch.tensor([2.0, 4.0]))
    final = list_scatter(ls=grown, indices=torch.tensor([2, 1]), value=torch.tensor([[-1.0, -2.0], [-4.0, -5.0]]))

    # then
    assert list_read(ls=start, index=0).tolist() == [0.0, 0.0]
    assert list_read(ls=final, index=0).tolist() == [1.0, 3.0]
    assert list_gather(ls=final, indices=torch.tensor([4, 2, 3])).tolist() == [[2.0, 4.0], [-1.0, -2.0], [0.0, 0.0]]
    assert int(list_length(ls=final)) == 5
    assert int(list_length(ls=start)) == 2


def test_elements_of_a_shape_known_at_run_time_take_it_from_the_first_write() -> None:
    # given
    start = make_list(elem_shape=("is0",), init_length=2, context=make_context())

    # when
    written = list_write(ls=start, index=1, value=torch.ones(3))

    # then
    assert list_read(ls=written, index=0).tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(IndexError, match="never written"):
        list_read(ls=start, index=0)


def test_an_index_that_no_list_can_have_is_refused() -> None:
    # given
    fixed = ListValue(items=(torch.ones(1),), dynamic=False)

    # when, then
    with pytest.raises(IndexError, match="out of range"):
        list_write(ls=fixed, index=1, value=torch.ones(1))
    with pytest.raises(IndexError, match="out of range"):
        list_write(ls=ListValue(items=()), index=2**31 - 1, value=torch.ones(1))
    with pytest.raises(IndexError, match="out of range"):
        list_read(ls=fixed, index=-1)
