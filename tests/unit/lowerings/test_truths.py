"""Truths and integers where MIL takes floats alone; what masks and indices of the input choose; small inverses."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from tests.unit.lowerings.agreement import Case, Draw, agree, floats, integers, ways


def compared(rng: random.Random) -> Case:
    def compare(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        a, b = x > 0, y > 0
        sums = [a * b, torch.maximum(a, b), torch.minimum(a, b), torch.cummax(a, 0).values, torch.cummin(a, 1).values]
        sums += [a.amax(1), a.amin((0, 1)), a.max(), b.min(0)[0], *a.max(1, keepdim=True)]
        return a < b, a <= b, a > b, a >= b, a > 0, *sums

    return compare, (integers(rng, 3, 4, low=-1, high=2), integers(rng, 3, 4, low=-1, high=2))


def of_integers(rng: random.Random) -> Case:
    return (
        lambda x: (
            torch.ceil(x), torch.floor(x), torch.round(x), torch.relu(x), functional.relu6(x), torch.cosh(x % 4),
            torch.sinh(x % 4), torch.erfc(x % 4), torch.atanh(x % 1), functional.pairwise_distance(x, x + 1),
            torch.true_divide(x % 5, 4), torch.logsumexp(x % 5, 1), torch.logsumexp(x % 5, (0, 1), keepdim=True),
        ),
        (torch.tensor([[2**24 + 1, -70001, 2049], [3, -5, 0]], dtype=torch.int32),),
    )  # fmt: skip


def angles(rng: random.Random) -> Case:
    return (
        lambda x: (torch.angle(x), torch.angle(torch.view_as_complex(x.reshape(3, 2, 2)))),
        (floats(rng, 3, 4),),
    )


def scattered(rng: random.Random) -> Case:
    """As vision language models put the features of a picture in the places of its tokens."""
    mask = integers(rng, 2, 5, low=0, high=2)
    return (
        lambda x, m, source: (
            x.masked_scatter((m > 0)[..., None].expand(x.shape), source),
            torch.masked_scatter(x, (m > 0)[..., None], source), x[0].masked_scatter(m[:1].T > 3, source),
        ),
        (floats(rng, 2, 5, 3), mask, floats(rng, 30)),
    )  # fmt: skip


def written(rng: random.Random) -> Case:
    """As one-hot codes and sums by groups are made: a number of another dtype, indices for a part of the other axes."""
    return (
        lambda x, i, source: (
            torch.zeros(3, 4).scatter(1, i.long(), 1), x.scatter(1, i[:2].long(), source),
            x.scatter(0, i[1:2].long(), 2.5),
            x.scatter_add(1, i[:, :1].long(), source), x.int().scatter(1, i.long(), source.int()[:, :2]),
            x.scatter(1, i[1:].long(), 2, reduce="multiply"),
        ),
        (floats(rng, 3, 4), torch.tensor([[0, 3], [2, 1], [1, 2]], dtype=torch.int32), floats(rng, 3, 4)),
    )  # fmt: skip


def filled(rng: random.Random) -> Case:
    return (
        lambda x, i: (
            x.index_fill(1, i.long(), 7.0), x.index_fill(0, torch.tensor([1]), 2.5),
            x.int().index_fill(-1, i.long(), 3),
        ),
        (floats(rng, 3, 4), torch.tensor([-1, 0, 2], dtype=torch.int32)),
    )  # fmt: skip


def inverses(rng: random.Random) -> Case:
    def near_one(size: int) -> Tensor:
        return (floats(rng, 2, size, size, low=-0.25, high=0.25) + torch.eye(size)).half().float()

    return (
        lambda a, b, c: (torch.inverse(a), torch.linalg.inv(b * 500), torch.linalg.inv(c), torch.inverse(a[:, :1, :1])),
        (near_one(2), near_one(3), near_one(4)),
    )


@ways(compared, of_integers, angles, scattered, written, filled, inverses)
def test_agrees_with_torch(draw: Draw, method: str, half: bool, tmp_path: Path) -> None:
    agree(draw, method=method, half=half, folder=tmp_path, count=1)
