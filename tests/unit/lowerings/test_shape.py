"""Operators that only move elements."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import nn

from tests.unit.lowerings.agreement import Case, Draw, agree, floats, integers, some_axis, some_shape, ways


def exchanged_axes(rng: random.Random) -> Case:
    shape = some_shape(rng, low=2)
    a, b = some_axis(rng, shape), some_axis(rng, shape)
    return (
        lambda x: (torch.swapaxes(x, a, b), x.swapdims(b, a), torch.movedim(x, a, b), x.mT, torch.moveaxis(x, 0, -1))
    ), (floats(rng, *shape),)


def differences(rng: random.Random) -> Case:
    shape = [size + 3 for size in some_shape(rng, high=3, largest=3)]
    axis, n = some_axis(rng, shape), rng.randint(1, 2)
    end = [1 if i == axis % len(shape) else size for i, size in enumerate(shape)]
    return (
        lambda x, e: (
            torch.diff(x, n, axis),
            torch.diff(x, dim=axis, prepend=e, append=e),
            torch.diff(x > 0, dim=axis),
        ),
        (floats(rng, *shape), floats(rng, *end)),
    )


def differences_of_integers(rng: random.Random) -> Case:
    x = integers(rng, 1, rng.randint(2, 9))
    return (lambda x: torch.diff(x, prepend=torch.full((1, 1), -1, dtype=x.dtype), dim=-1)), (x,)


def windows(rng: random.Random) -> Case:
    shape = [size + 2 for size in some_shape(rng, low=1, high=4, largest=4)]
    axis = some_axis(rng, shape)
    size, step = rng.randint(1, shape[axis]), rng.randint(1, 3)
    return (lambda x: x.unfold(axis, size, step)), (floats(rng, *shape),)


def strided(rng: random.Random) -> Case:
    x = floats(rng, rng.randint(3, 5), rng.randint(4, 6))
    return (
        lambda x: (torch.as_strided(x, (2, 3), (1, 2), 1), torch.as_strided(x, (3, 3), (x.stride(0), 1)),
                   torch.as_strided(x, (4,), (0,), 2)),
        (x,),
    )  # fmt: skip


def shuffled_channels(rng: random.Random) -> Case:
    groups = rng.choice([1, 2, 3])
    shape = [rng.randint(1, 2), groups * rng.randint(1, 3), *some_shape(rng, low=1, high=2, largest=4)]
    return nn.ChannelShuffle(groups), (floats(rng, *shape),)


def turned(rng: random.Random) -> Case:
    shape, k = some_shape(rng, low=2), rng.randint(-3, 4)
    return (lambda x: (torch.rot90(x, k), torch.rot90(x, k, (-1, 0)), torch.flipud(x))), (floats(rng, *shape),)


def turned_constants(rng: random.Random) -> Case:
    count = rng.randint(2, 5)
    return (lambda x: (torch.arange(count) < 2).flip(0).bool().float() * x), (floats(rng, 2, count),)


def parts(rng: random.Random) -> Case:
    shape = [rng.randint(4, 7), *some_shape(rng, low=1, high=2)]
    return (lambda x: (*torch.tensor_split(x, 3), *torch.tensor_split(x, [1, 3]), x.ravel())), (floats(rng, *shape),)


def stacks(rng: random.Random) -> Case:
    n = rng.randint(1, 5)
    return (
        lambda a, b, m: (torch.vstack([a, b]), torch.dstack([a, b]), torch.column_stack([a, m]), torch.dstack([m, m])),
        (floats(rng, n), floats(rng, n), floats(rng, n, 2)),
    )


def diagonals(rng: random.Random) -> Case:
    shape, offset = some_shape(rng, high=3), rng.choice([-2, -1, 0, 1, 2])
    return (lambda x: (torch.diag_embed(x), torch.diag_embed(x, offset))), (floats(rng, *shape),)


def taken(rng: random.Random) -> Case:
    x = floats(rng, 3, rng.randint(2, 5))
    index = integers(rng, 3, 2, low=0, high=x.shape[1])
    return (
        lambda x, i: (
            torch.take_along_dim(x, i.long(), 1),
            torch.take(x, i.long()),
            x.index_fill(1, torch.tensor([0]), 7.0),
        ),
        (x, index),
    )


@ways(
    exchanged_axes, differences, differences_of_integers, windows, strided, shuffled_channels, turned,
    turned_constants, parts, stacks, diagonals, taken,
)  # fmt: skip
def test_moves_agree_with_torch(draw: Draw, method: str, half: bool, tmp_path: Path) -> None:
    agree(draw, method=method, half=half, folder=tmp_path)
