"""Order statistics, reductions at indices, grouped attention, transposed convolutions of volumes."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.unit.lowerings.agreement import Case, Draw, agree, floats, integers, some_axis, some_shape, ways


def distinct(rng: random.Random, *shape: int) -> Tensor:
    """Values of which no two are equal, so that places are certain."""
    count = int(torch.tensor(shape).prod())
    order = torch.randperm(count, generator=torch.Generator().manual_seed(rng.randrange(2**31)))
    return (order.float() / 8 - count / 16).reshape(shape)


def in_the_middle(rng: random.Random) -> Case:
    shape = some_shape(rng)
    axis = some_axis(rng, shape)
    k = rng.randint(1, shape[axis])
    return (
        lambda x: (*torch.median(x, axis), torch.median(x), *torch.kthvalue(x, k, axis, keepdim=True), torch.msort(x))
    ), (distinct(rng, *shape),)


def quantiles(rng: random.Random) -> Case:
    shape = some_shape(rng)
    axis, q = some_axis(rng, shape), rng.choice([0.0, 0.3, 0.5, 1.0])
    return (
        lambda x: (torch.quantile(x, q, dim=axis), torch.quantile(x, q), torch.quantile(x, q, dim=axis, keepdim=True))
    ), (distinct(rng, *shape),)


def places(rng: random.Random) -> Case:
    edges, right = torch.tensor([-1.0, 0.0, 0.5, 1.0]), rng.random() < 0.5
    return (lambda x, i: (torch.searchsorted(edges, x, right=right), torch.isin(i, torch.tensor([0, 2])))), (
        floats(rng, 2, rng.randint(1, 5)),
        integers(rng, 3, 2, low=-3, high=4),
    )


def met(rng: random.Random) -> Case:
    rows, count, width = rng.randint(1, 3), rng.randint(2, 6), rng.randint(2, 4)
    index = torch.randint(0, width, (rows, count), generator=torch.Generator().manual_seed(rng.randrange(2**31)))
    kind, with_self = rng.choice(["sum", "prod", "amax", "amin", "mean"]), rng.random() < 0.5
    numbers = torch.tensor([rng.randint(0, 2) for _ in range(rows - 1)] + [2])
    return (
        lambda x, src: (
            torch.scatter_reduce(x, 1, index, src, kind, include_self=with_self),
            torch.repeat_interleave(src, numbers, 0),
        )
    ), (floats(rng, rows, width), floats(rng, rows, count))


def grouped(rng: random.Random) -> Case:
    groups, length = rng.randint(1, 2), rng.randint(2, 5)
    causal, scale = rng.random() < 0.5, rng.choice([None, 0.3])
    mask = None if causal else torch.ones(length, length, dtype=torch.bool).tril()
    return (
        lambda q, k, v: functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=True
        )
    ), (floats(rng, 1, 2 * groups, length, 4), floats(rng, 1, groups, length, 4), floats(rng, 1, groups, length, 4))


def volumes(rng: random.Random) -> Case:
    torch.manual_seed(rng.randrange(2**31))
    stride, padding = rng.randint(2, 3), rng.randint(0, 1)
    layer = nn.ConvTranspose3d(
        2, 4, rng.randint(2, 3), stride=stride, padding=padding, output_padding=1, groups=rng.randint(1, 2)
    )
    return layer.requires_grad_(False), (floats(rng, 1, 2, *(rng.randint(2, 3) for _ in range(3))),)


@ways(in_the_middle, quantiles, places, met, grouped, volumes)
def test_these_agree_with_torch(draw: Draw, method: str, half: bool, tmp_path: Path) -> None:
    agree(draw, method=method, half=half, folder=tmp_path)
