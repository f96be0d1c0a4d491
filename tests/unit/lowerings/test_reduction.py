"""Operators that make one number of many."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch.nn import functional

from tests.unit.lowerings.agreement import Case, Draw, agree, floats, integers, some_axis, some_shape, ways


def moments(rng: random.Random) -> Case:
    shape = some_shape(rng, low=2)
    shape = [size + 1 for size in shape]
    axis, correction, keep = some_axis(rng, shape), rng.choice([0, 1]), rng.random() < 0.5
    return (
        lambda x: (
            *torch.var_mean(x, axis, correction=correction, keepdim=keep),
            *torch.std_mean(x, [0, 1], correction=correction),
            *torch.var_mean(x, unbiased=False),
            *torch.std_mean(x),
        ),
        (floats(rng, *shape),),
    )


def products(rng: random.Random) -> Case:
    shape = some_shape(rng, largest=3)
    axis = some_axis(rng, shape)
    return (lambda x: (torch.prod(x), torch.prod(x, axis), torch.prod(x, axis, keepdim=True))), (floats(rng, *shape),)


def extremes(rng: random.Random) -> Case:
    shape = some_shape(rng)
    axis = some_axis(rng, shape)
    return (lambda x: (*torch.aminmax(x), *torch.aminmax(x, dim=axis, keepdim=True))), (floats(rng, *shape),)


def counts(rng: random.Random) -> Case:
    shape = some_shape(rng)
    axis = some_axis(rng, shape)
    x = integers(rng, *shape, low=-1, high=2)
    return (lambda x: (torch.count_nonzero(x), torch.count_nonzero(x, dim=axis))), (x,)


def distances(rng: random.Random) -> Case:
    lead, width = some_shape(rng, low=0, high=2, largest=3), rng.randint(1, 6)
    x, y = floats(rng, *lead, rng.randint(1, 5), width), floats(rng, *lead, rng.randint(1, 5), width)
    p = rng.choice([0.0, 1.0, 2.0, 3.0, float("inf")])
    return (lambda x, y: (torch.cdist(x, y), torch.cdist(x, y, p=p))), (x, y)


def distances_of_pairs(rng: random.Random) -> Case:
    shape = [rng.randint(1, 5), rng.randint(1, 6)]
    p = rng.choice([1.0, 2.0, 3.0])
    return (
        lambda x, y: (functional.pairwise_distance(x, y, p), functional.pairwise_distance(x, y, keepdim=True)),
        (floats(rng, *shape), floats(rng, *shape)),
    )


def buckets(rng: random.Random) -> Case:
    edges, right = torch.sort(floats(rng, rng.randint(1, 6)))[0], rng.random() < 0.5
    x = torch.cat([floats(rng, 5), edges])  # on the edges too
    return (
        lambda x, e: (torch.bucketize(x, e, right=right), torch.bucketize(x, e, out_int32=True),
                      torch.searchsorted(e, x, right=right)),
        (x, edges),
    )  # fmt: skip


def root_mean_squares(rng: random.Random) -> Case:
    """Rows of zeros, one spike among small values, and values whose squares half precision does not hold."""
    x, weight = floats(rng, 4, rng.randint(2, 9)), floats(rng, 1, low=0.5)
    x[0], x[1, 0], x[1, 1:], x[2] = 0, 64, x[1, 1:] / 64, x[2] * 300
    size = x.shape[1:]
    return (
        lambda x, w: (
            *(functional.rms_norm(row, size, w.expand(size), eps) for row in x for eps in (None, 1e-6, 0.01)),
            functional.rms_norm(x, size), functional.rms_norm(x[None, 1:2], (1, *size), eps=0.01),
        ),
        (x, weight),
    )  # fmt: skip


def sums_so_far(rng: random.Random) -> Case:
    shape = some_shape(rng, low=2)
    axis = rng.randint(-len(shape), -1)
    return (
        lambda x: (torch.cumsum(x, axis), torch.cumsum(x > 0, axis).int(), torch.cumsum(x > 0, axis, dtype=torch.float))
    ), (floats(rng, *shape),)


@ways(root_mean_squares, moments, products, sums_so_far, extremes, counts, distances, distances_of_pairs, buckets)
def test_reductions_agree_with_torch(draw: Draw, method: str, half: bool, tmp_path: Path) -> None:
    agree(draw, method=method, half=half, folder=tmp_path)
