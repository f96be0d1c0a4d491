"""LSTMs and GRUs over packed sequences: outputs and last states are those of each sequence's own length."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.unit.lowerings.agreement import Case, Draw, agree, floats, integers


def sequences(rng: random.Random, kind: type[nn.LSTM | nn.GRU]) -> Case:
    steps, batch, hidden, layers = rng.randint(1, 6), rng.randint(1, 4), rng.randint(1, 4), rng.randint(1, 2)
    both, first, bias = (rng.random() < 0.5 for _ in range(3))
    torch.manual_seed(rng.randrange(2**31))
    module = kind(3, hidden, layers, bias=bias, batch_first=first, bidirectional=both).requires_grad_(False)
    begin = torch.randn(2, layers * (2 if both else 1), batch, hidden) if rng.random() < 0.5 else None
    value = rng.choice([0.0, 2.0])

    def run(x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        sequence = pack_padded_sequence(x, lengths.long(), batch_first=first, enforce_sorted=False)
        states = None if begin is None else (begin[0], begin[1]) if kind is nn.LSTM else begin[0]
        output, last = module(sequence, states)
        padded, back = pad_packed_sequence(output, batch_first=first, padding_value=value, total_length=steps)
        return padded, *(last if isinstance(last, tuple) else (last,)), back.int()

    shape = (batch, steps, 3) if first else (steps, batch, 3)
    return run, (floats(rng, *shape), integers(rng, batch, low=1, high=steps + 1))


def packed_lstm(rng: random.Random) -> Case:
    return sequences(rng, nn.LSTM)


def packed_gru(rng: random.Random) -> Case:
    return sequences(rng, nn.GRU)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("draw", [packed_lstm, packed_gru])
def test_lengths_decide_what_is_returned_and_what_is_kept(draw: Draw, half: bool, tmp_path: Path) -> None:
    used = agree(draw, method="trace", half=half, folder=tmp_path)
    assert {"_pack_padded_sequence", "_pad_packed_sequence"} < set(used)
