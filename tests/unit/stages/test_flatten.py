"""Whatever a model returns becomes named tensors, or is refused by name."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch

from builder.errors import ConversionError
from builder.model.flatten import flatten_outputs

A, B = torch.zeros(1), torch.ones(1)
Pair = namedtuple("Pair", "left right")


@dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...]
    loss: torch.Tensor | None = None


@pytest.mark.parametrize(
    ("returned", "names"),
    [
        (A, ["output"]),
        ((A,), ["output"]),
        ((A, B), ["output_0", "output_1"]),
        ([A, B], ["output_0", "output_1"]),
        ({"out": A, "aux": B}, ["out", "aux"]),
        (OrderedDict(out=A), ["out"]),
        ({"a.b": A, 3: B}, ["a_b", "output_3"]),
        (Pair(A, B), ["left", "right"]),
        (Output(A, (A, B)), ["logits", "hidden_0", "hidden_1"]),
        ((A, (B, A)), ["output_0", "output_1_0", "output_1_1"]),
    ],
)
def test_names_are_stable(returned, names):
    assert list(flatten_outputs(returned)) == names


@pytest.mark.parametrize("returned", ["text", 3, {}, (None,), (A, "text")])
def test_what_is_no_tensor_is_refused(returned):
    with pytest.raises(ConversionError):
        flatten_outputs(returned)
