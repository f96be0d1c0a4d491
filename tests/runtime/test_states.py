"""States are copied out and written in place."""

from __future__ import annotations

import pytest
import torch

from coreml_runtime.ops.states import read_state, write_state


def test_a_value_read_does_not_follow_later_writes() -> None:
    # given
    state = torch.zeros(2)

    # when
    before = read_state(input_=state)
    assert write_state(input_=state, data=torch.ones(2)) == ()

    # then
    assert before.tolist() == [0, 0]
    assert read_state(input_=state).tolist() == [1, 1]


def test_a_state_keeps_its_shape() -> None:
    # given, when, then
    with pytest.raises(ValueError, match=r"shape \(2,\) is given \(1,\)"):
        write_state(input_=torch.zeros(2), data=torch.ones(1))
