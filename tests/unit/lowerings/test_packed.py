"""LSTMs over packed sequences: outputs and last states are those of each sequence's own length."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.unit.lowerings.agreement import Case, agree, floats, integers


def packed(rng: random.Random) -> Case:
    steps, batch, hidden, layers = rng.randint(1, 6), rng.randint(1, 4), rng.randint(1, 4), rng.randint(1, 2)
    both, first, bias = (rng.random() < 0.5 for _ in range(3))
    torch.manual_seed(rng.randrange(2**31))
    lstm = nn.LSTM(3, hidden, layers, bias=bias, batch_first=first, bidirectional=both).requires_grad_(False)
    begin = torch.randn(2, layers * (2 if both else 1), batch, hidden) if rng.random() < 0.5 else None
    value = rng.choice([0.0, 2.0])

    def run(x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        sequence = pack_padded_sequence(x, lengths.long(), batch_first=first, enforce_sorted=False)
        output, (h, c) = lstm(sequence, None if begin is None else (begin[0], begin[1]))
        padded, back = pad_packed_sequence(output, batch_first=first, padding_value=value, total_length=steps)
        return padded, h, c, back.int()

    shape = (batch, steps, 3) if first else (steps, batch, 3)
    return run, (floats(rng, *shape), integers(rng, batch, low=1, high=steps + 1))


@pytest.mark.parametrize("half", [False, True])
def test_lengths_decide_what_is_returned_and_what_is_kept(half: bool, tmp_path: Path) -> None:
    used = agree(packed, method="trace", half=half, folder=tmp_path)
    assert {"_pack_padded_sequence", "_pad_packed_sequence", "lstm"} <= set(used)
