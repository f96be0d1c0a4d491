"""Tensors of more than five dimensions: plain numbers against numpy, and whole programs against torch."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.backends.coreml.lowerings.transposes import MOST, transposes
from tests.unit.lowerings.agreement import Case, Draw, agree, floats, ways


@st.composite
def movements(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=9))
    return shape, draw(st.permutations(range(len(shape))))


@given(movements())
@settings(deadline=None, max_examples=300)
def test_steps_of_few_dimensions_move_elements_as_the_transpose_does(movement: tuple[list[int], list[int]]) -> None:
    shape, perm = movement
    x = np.arange(np.prod(shape))
    moved = x
    for sizes, order in transposes(shape, perm):
        assert len(sizes) <= MOST
        moved = moved.reshape(sizes).transpose(order)
    np.testing.assert_array_equal(moved.reshape(-1), x.reshape(shape).transpose(perm).reshape(-1))


def windows(rng: random.Random) -> Case:
    """Window partition as Swin writes it, and back."""
    w, h, b, c = rng.randint(1, 3), rng.randint(1, 3), rng.randint(1, 2), rng.randint(1, 3)

    def partition(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        parts = x.view(b, h, w, h, w, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, w, w, c)
        back = (parts * 2).view(b, h, h, w, w, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h * w, h * w, c)
        return parts, back

    return partition, (floats(rng, b, h * w, h * w, c),)


def any_movement(rng: random.Random) -> Case:
    shape = [rng.randint(1, 3) for _ in range(rng.randint(6, 8))]
    perm = rng.sample(range(len(shape)), len(shape))
    return (lambda x: x.reshape(shape).permute(perm).reshape(-1, shape[perm[-1]])), (floats(rng, int(np.prod(shape))),)


def chains(rng: random.Random) -> Case:
    """Several in a row without coming back to five dimensions, as Hiera unrolls its tokens."""
    first, second = rng.sample(range(6), 6), rng.sample(range(7), 7)

    def unroll(x: torch.Tensor) -> torch.Tensor:
        x = x.reshape(2, 2, 2, 2, 2, 6).permute(first).reshape(2, 2, 2, 2, 2, 2, 3).permute(second)
        return x.reshape(4, -1)

    return unroll, (floats(rng, 2, 96),)


def along_an_axis(rng: random.Random) -> Case:
    shape = [rng.randint(2, 3) for _ in range(6)]
    axis = rng.randrange(6)

    def work(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = x.reshape(shape)
        return (
            x.amax(axis),
            x.sum((0, axis)) if axis else x.sum(0),
            x.softmax(axis).reshape(-1),
            x.select(axis, 1),
            x.narrow(axis, 1, 1).reshape(-1),
            *x.unbind(axis),
            torch.relu(x).reshape(-1, shape[-1]),
        )

    return work, (floats(rng, int(np.prod(shape))),)


def attention_in_windows(rng: random.Random) -> Case:
    """Queries, keys and values of many windows, as Hiera and Twins take them apart."""
    windows, heads, tokens, width = rng.randint(1, 3), rng.randint(1, 2), rng.randint(2, 4), rng.randint(1, 3)
    shape = (1, tokens, windows, 3, heads, width)

    def attend(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        q, k, v = x.reshape(shape).permute(3, 0, 4, 2, 1, 5)
        q = q.reshape(1, heads, windows, 1, tokens, width).amax(3)
        scores = (q @ k.transpose(-1, -2) + bias).softmax(-1)
        return (scores @ v).transpose(1, 3).reshape(1, -1, heads * width)

    return attend, (floats(rng, int(np.prod(shape))), floats(rng, heads, 1, tokens, tokens))


def sums_of_many_dimensions(rng: random.Random) -> Case:
    a, b, c, d = (rng.randint(2, 3) for _ in "abcd")

    def add(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = x.reshape(a, b, 1, c, d, 2)
        total = x + y.reshape(1, 1, 1, c, d, 1) - z.reshape(a, b, 1, 1, 1, 1)
        product = x.reshape(a, b, c, 1, d, 2) @ x.reshape(a, b, c, 1, d, 2).transpose(-1, -2)
        return (total * x).reshape(a * b, -1), product.reshape(a, -1)

    return add, (floats(rng, a * b * c * d * 2), floats(rng, c * d), floats(rng, a * b))


def layers_on_windows(rng: random.Random) -> Case:
    """A linear layer and a layer norm on windows that are still apart, as Twins applies them."""
    w, h, c = rng.randint(2, 3), rng.randint(1, 3), rng.randint(2, 4)
    torch.manual_seed(rng.randint(0, 99))
    linear = torch.nn.Linear(c, 2 * c).requires_grad_(False)
    norm = torch.nn.LayerNorm(2 * c).requires_grad_(False)

    def attend(x: torch.Tensor) -> torch.Tensor:
        x = norm(linear(x.view(1, h, w, h, w, c).transpose(2, 3)))
        return x.reshape(1, h * h, w * w, 2, c).permute(3, 0, 1, 2, 4).reshape(2, -1)

    return attend, (floats(rng, 1, h * w, h * w, c),)


@ways(windows, any_movement, chains, along_an_axis, attention_in_windows, sums_of_many_dimensions, layers_on_windows)
def test_many_dimensions_agree_with_torch(draw: Draw, method: str, half: bool, tmp_path: Path) -> None:
    agree(draw, method=method, half=half, folder=tmp_path)
