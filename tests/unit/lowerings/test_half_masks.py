"""Masks made of float32's least number, in half precision."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from tests.unit.lowerings.agreement import Case, Draw, agree, floats

LEAST = torch.finfo(torch.float32).min


def added(rng: random.Random) -> Case:
    """As transformers writes it: one row is masked altogether, and torch then gives every key the same weight."""
    mask = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    return (lambda x, m: torch.softmax(x + (1.0 - m) * LEAST, -1)), (floats(rng, 3, 3), mask)


def filled(rng: random.Random) -> Case:
    mask = torch.tensor([[1, 0, 1], [1, 1, 1], [0, 0, 0]], dtype=torch.int32)
    return (lambda x, m: torch.softmax(x.masked_fill(m > 0, LEAST), -1)), (floats(rng, 3, 3), mask)


def limited(rng: random.Random) -> Case:
    """A limit is not a mask: what half precision holds stays what it is."""
    return (lambda x: torch.clamp(x * 1000, min=LEAST) * 10), (torch.tensor([-5.0, 3.0]),)


@pytest.mark.parametrize("method", ["trace", "export"])
@pytest.mark.parametrize("draw", [added, filled, limited])
def test_a_row_that_is_masked_altogether_is_no_nan(draw: Draw, method: str, tmp_path: Path) -> None:
    agree(draw, method=method, half=True, folder=tmp_path, count=1)
