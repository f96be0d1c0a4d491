"""Bitwise operators on integers and booleans."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from tests.unit.lowerings.agreement import Case, Draw, agree, integers, some_shape

LIMIT = 2**31 - 1
EDGES = torch.tensor([0, 1, -1, 2, -2, LIMIT, -LIMIT - 1, 0x55555555, -0x55555556], dtype=torch.int32)


def _pair(rng: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    if rng.random() < 0.3:
        return EDGES.reshape(-1, 1), EDGES
    shape = some_shape(rng)
    other = [size if rng.random() < 0.7 else 1 for size in shape]
    return integers(rng, *shape, low=-LIMIT, high=LIMIT), integers(rng, *other, low=-LIMIT, high=LIMIT)


def bitwise_and(rng: random.Random) -> Case:
    return (lambda x, y: x & y), _pair(rng)


def bitwise_or(rng: random.Random) -> Case:
    return (lambda x, y: x | y), _pair(rng)


def bitwise_xor(rng: random.Random) -> Case:
    return torch.bitwise_xor, _pair(rng)


def with_a_number(rng: random.Random) -> Case:
    mask = rng.choice([0, 1, 255, -1, LIMIT])
    return (lambda x: (x & mask, torch.bitwise_or(x, mask), x ^ mask, ~x)), _pair(rng)[:1]


def of_booleans(rng: random.Random) -> Case:
    return (lambda x, y: ((x > 0) & (y > 0), (x > 0) | (y > 0), (x > 0) ^ (y > 0))), _pair(rng)


def shifts(rng: random.Random) -> Case:
    distance = rng.randint(0, 30)
    return (lambda x: (x << distance, x >> distance, torch.bitwise_right_shift(x, distance))), _pair(rng)[:1]


def shifts_by_tensors(rng: random.Random) -> Case:
    x, _ = _pair(rng)
    return (lambda x, y: (torch.bitwise_left_shift(x, y), x >> y)), (x, integers(rng, *x.shape, low=0, high=31))


def _narrow_results(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    moved = x + 100
    moved[:, 1:] *= 3
    sums = x.cumsum(1, dtype=x.dtype), x.sum(1, dtype=x.dtype)
    return x * 3, x - 100, -x, ~x, x * x, x << 2, x.abs(), x // 3, moved, *sums, x.float() / 2, torch.cat([x, x * 2])


def wraps_within_8_and_16_bits(rng: random.Random) -> Case:
    dtypes = (torch.uint8, torch.int8, torch.int16)
    x = integers(rng, 3, 40, low=-(2**15), high=2**15)
    x[0, :8] = torch.tensor([-128, 127, 128, 255, -(2**15), 2**15 - 1, 200, 0])
    return (lambda x: [y for dtype in dtypes for y in _narrow_results(x.to(dtype))]), (x,)


@pytest.mark.parametrize("method", ["trace", "export"])
@pytest.mark.parametrize(
    "draw",
    [
        *(bitwise_and, bitwise_or, bitwise_xor, with_a_number, of_booleans, shifts, shifts_by_tensors),
        wraps_within_8_and_16_bits,
    ],
)
def test_integers_agree_with_torch(draw: Draw, method: str, tmp_path: Path) -> None:
    agree(draw, method=method, half=False, folder=tmp_path)


def to_16_bits_without_a_sign(rng: random.Random) -> Case:
    return (lambda x: x.to(torch.uint16).int()), (integers(rng, 2, 9, low=-(2**17), high=2**17),)


def test_a_cast_to_uint16_wraps(tmp_path: Path) -> None:
    agree(to_16_bits_without_a_sign, method="trace", half=False, folder=tmp_path, count=1)
