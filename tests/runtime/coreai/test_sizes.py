"""Results that a damaged constant would make huge are refused before any memory is taken."""

from __future__ import annotations

import pytest
import torch

from coreml_runtime.coreai.ops.shaping import pad, range_, tile
from coreml_runtime.ops.context import TensorType
from tests.runtime.contexts import make_context

HUGE = 2**31 - 1


def test_a_padding_that_is_not_the_declared_one_is_refused() -> None:
    context = make_context(output=TensorType(dtype="fp32", shape=(5,)))
    with pytest.raises(ValueError, match=r"would have the shape \(2147483650,\), the file declares \(5,\)"):
        pad(
            x=torch.ones(3), padding=(HUGE, 0), padding_value=torch.zeros(()), padding_mode="replicate", context=context
        )


def test_a_result_of_unknown_size_has_to_fit_into_the_machine() -> None:
    context = make_context(output=TensorType(dtype="fp32", shape=(None, None)))
    with pytest.raises(ValueError, match="more than this machine can hold"):
        tile(x=torch.ones(2, 2), dims=(HUGE, HUGE), context=context)
    context = make_context(output=TensorType(dtype="fp32", shape=(None,)))
    with pytest.raises(ValueError, match="more than this machine can hold"):
        range_(start=torch.tensor(0.0), stop=torch.tensor(1e30), step=torch.tensor(1.0), context=context)
