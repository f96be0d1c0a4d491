"""Matrices, complex numbers, embedding bags and masks."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from builder.errors import ConversionError
from tests.unit.lowerings.agreement import Case, Cases, Draw, agree, convert, floats, integers, some_shape, ways


def determinants(rng: random.Random) -> Case:
    """Of matrices near a multiple of one, so that the terms do not cancel: what is left would be rounding alone."""
    size, lead = rng.randint(1, 4), some_shape(rng, low=0, high=2)
    matrices = floats(rng, *lead, size, size, low=-0.5, high=0.5) + 2 * torch.eye(size)
    return (lambda x: (torch.det(x), torch.linalg.det(x))), (matrices.half().float(),)


def sums_of_products(rng: random.Random) -> Case:
    n, m, k, b = (rng.randint(1, 4) for _ in "nmkb")
    return (
        lambda m_, u, v, p, q: (
            torch.addr(m_, u, v, beta=0.5, alpha=2), torch.addmv(u, m_, v), torch.addbmm(m_, p, q, beta=2, alpha=0.5),
            torch.inner(p, q.mT), torch.inner(m_, v), torch.inner(u, u), torch.inner(u[0], m_),
        ),
        (floats(rng, n, m), floats(rng, n), floats(rng, m), floats(rng, b, n, k), floats(rng, b, k, m)),
    )  # fmt: skip


def all_pairs(rng: random.Random) -> Case:
    counts = rng.randint(1, 4), rng.randint(1, 4)
    return (lambda i, x: (torch.outer(i, x), torch.outer(x, i), torch.outer(x, x), torch.outer(i, i))), (
        integers(rng, counts[0]),
        floats(rng, counts[1]),
    )


def rotary(rng: random.Random) -> Case:
    """Rotary embeddings as Llama's own code writes them: (batch, length, heads, width) as complex numbers."""
    length, width = rng.randint(1, 5), 2 * rng.randint(1, 4)
    angles = floats(rng, length, width // 2)
    turns = torch.polar(torch.ones_like(angles), angles)

    def rotate(x: torch.Tensor, phase: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        computed = torch.polar(torch.ones_like(phase), phase)
        return (
            torch.view_as_real(pairs * computed.unsqueeze(0).unsqueeze(2)).flatten(3),
            torch.view_as_real(pairs * 2.0).flatten(3),
        )

    del turns
    return rotate, (floats(rng, 1, length, 2, width), angles)


def bags(rng: random.Random) -> Case:
    table, mode = floats(rng, 7, rng.randint(1, 4)), rng.choice(["sum", "mean", "max"])
    indices = integers(rng, 6, low=0, high=7)
    return (
        lambda w, i, rows: (
            functional.embedding_bag(i, w, torch.tensor([0, 2, 2, 5], dtype=torch.int32), mode=mode),
            functional.embedding_bag(rows, w, mode=mode),
            functional.embedding_bag(i, w, torch.tensor([0, 3], dtype=torch.int32), mode="sum",
                                     per_sample_weights=w[:6, 0].contiguous()),
            functional.embedding_bag(rows, w, mode="mean", padding_idx=1),
        ),
        (table, indices, integers(rng, 2, 3, low=0, high=7)),
    )  # fmt: skip


def bags_with_offsets_from_the_app(rng: random.Random) -> Case:
    return (lambda w, i, o: functional.embedding_bag(i, w, o, mode="mean", include_last_offset=True)), (
        floats(rng, 7, 3),
        integers(rng, 6, low=0, high=7),
        torch.tensor([0, 1, 4, 6], dtype=torch.int32),
    )


def triangles_of_infinity(rng: random.Random) -> Case:
    n, d = rng.randint(2, 5), rng.choice([-1, 1, 2])
    return (
        lambda x: (
            torch.triu(torch.full((n, n), -torch.inf) * x.abs().max().clamp(1, 1), 1).clamp(min=-9),
            torch.triu(x / 0.0 if False else x, d), torch.tril(x, d), torch.tril(x > 0, -1), torch.triu(x > 0, 1),
        ),
        (floats(rng, *some_shape(rng, low=0, high=1), n, n),),
    )  # fmt: skip


def infinite_elements(rng: random.Random) -> Case:
    x = floats(rng, 4, 4)
    x[0, 0], x[3, 0], x[0, 3] = torch.inf, -torch.inf, torch.inf
    return (lambda x: (torch.triu(x * 2, 1), torch.tril(x * 2, -1))), (x,)


def ones_and_choices(rng: random.Random) -> Case:
    shape = some_shape(rng)
    return (
        lambda x: (x.new_ones(shape) + x, x.new_ones((2, 3), dtype=torch.int32), torch.where(x > 0, 0, x),
                   torch.where(x > 0, x, 1), torch.where(x > 0, 1.5, 0.5)),
        (floats(rng, *shape),),
    )  # fmt: skip


@ways(
    determinants, sums_of_products, all_pairs, rotary, bags, bags_with_offsets_from_the_app, triangles_of_infinity,
    infinite_elements, ones_and_choices,
)  # fmt: skip
def test_algebra_agrees_with_torch(draw: Draw, method: str, half: bool, tmp_path: Path) -> None:
    agree(draw, method=method, half=half, folder=tmp_path)


@pytest.mark.parametrize("method", ["trace", "export"])
def test_what_cannot_be_converted_says_why(method: str) -> None:
    module = Cases([(torch.linalg.det, (torch.rand(5, 5),))])
    with pytest.raises(ConversionError, match="of a 5 x 5 matrix is not converted: it takes a decomposition"):
        convert(module, [torch.rand(5, 5)], method=method, half=False)
