"""Operators on each element, edge cases included."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tests.unit.lowerings.agreement import Case, Draw, agree, floats, integers, some_shape, ways


def _apart(rng: random.Random, *shape: int, least: float = 0.3) -> torch.Tensor:
    """Values that keep away from zero."""
    x = floats(rng, *shape)
    return torch.where(x.abs() < least, torch.where(x < 0, x - least, x + least), x).half().float()


def addcmul(rng: random.Random) -> Case:
    shape, value = some_shape(rng), rng.choice([1, 0.5, -2])
    x, y, z = (floats(rng, *shape) for _ in range(3))
    return (lambda x, y, z: (torch.addcmul(x, y, z, value=value), x.clone().addcmul_(y, z))), (x, y, z[..., :1])


def addcdiv(rng: random.Random) -> Case:
    shape, value = some_shape(rng), rng.choice([1, 0.5, -2])
    given = (floats(rng, *shape), floats(rng, *shape), _apart(rng, *shape))
    return (lambda x, y, z: torch.addcdiv(x, y, z, value=value)), given


def alpha(rng: random.Random) -> Case:
    shape, factor = some_shape(rng), rng.choice([2, 0.5, -3])
    return (
        lambda x, y: (torch.add(x, y, alpha=factor), torch.sub(x, y, alpha=factor), torch.rsub(x, y, alpha=factor)),
        (floats(rng, *shape), floats(rng, *shape)),
    )


def alpha_with_numbers(rng: random.Random) -> Case:
    return (lambda x: (torch.sub(x, 3, alpha=2), torch.add(x, 2, alpha=3))), (integers(rng, *some_shape(rng)),)


def fmod(rng: random.Random) -> Case:
    shape = some_shape(rng)
    x = torch.tensor([7.0, -7.0, 6.0, -6.0, 0.0]).reshape(-1, *[1] * (len(shape) - 1)) * torch.ones(5, *shape[1:])
    divisor = torch.tensor([2.5, -2.5, 4.0, -4.0, 1.5]).reshape(-1, *[1] * (len(shape) - 1))
    return (lambda x, y: (torch.fmod(x, y), torch.fmod(x, 3.0))), (x, divisor)


def remainder_of_both_signs(rng: random.Random) -> Case:
    x = torch.tensor([7.0, -7.0, 6.0, -6.0, 0.0, 0.25])
    y = torch.tensor([2.5, 2.5, -4.0, -4.0, 1.5, -0.5])
    return (lambda x, y: (torch.remainder(x, y), x % 2.5)), (x, y)


def of_integers(rng: random.Random) -> Case:
    shape = some_shape(rng)
    x, y = integers(rng, *shape), integers(rng, *shape, low=1, high=9)
    return (
        lambda x, y: (
            torch.fmod(x, y), torch.remainder(x, 7), torch.div(x, y, rounding_mode="floor"), x // y,
            torch.div(x, -y, rounding_mode="trunc"), torch.div(x, 4, rounding_mode="floor"), x // 3,
        ),
        (x, y),
    )  # fmt: skip


def integer_quotient_as_an_index(rng: random.Random) -> Case:
    table = floats(rng, 10)
    return (lambda i: table[(i // 2).long()] + table[torch.div(i, 3, rounding_mode="trunc").long()]), (
        integers(rng, 4, low=0, high=10),
    )


def roots_of_integers(rng: random.Random) -> Case:
    x = integers(rng, *some_shape(rng), low=1, high=100)
    return (lambda x: (torch.sqrt(x), torch.rsqrt(x), torch.sin(x), torch.tanh(x), torch.sigmoid(x))), (x,)


def reciprocals(rng: random.Random) -> Case:
    """Of small values, which an epsilon of 1e-4 would halve."""
    x, n = floats(rng, *some_shape(rng), low=2**-12, high=2**-9), integers(rng, 3, low=1, high=9)
    return (lambda x, n: (1 / x, torch.reciprocal(x + 1), 3 / (x * 16), torch.reciprocal(n))), (x, n)


def powers_of_two(rng: random.Random) -> Case:
    x = floats(rng, *some_shape(rng))
    return (lambda x: (2**x, torch.pow(2.0, x), 3**x, x**2)), (x,)


def detached_views(rng: random.Random) -> Case:
    return (lambda x: torch.ops.aten.alias(x) + 1), (floats(rng, *some_shape(rng)),)


def between(rng: random.Random) -> Case:
    shape = some_shape(rng)
    return (lambda x, y, w: (torch.lerp(x, y, 0.25), torch.lerp(x, y, w))), tuple(floats(rng, *shape) for _ in "xyw")


def logarithms(rng: random.Random) -> Case:
    shape = some_shape(rng)
    x, y, p = floats(rng, *shape), floats(rng, *shape, low=-30, high=30), floats(rng, *shape, low=0.1, high=0.9)
    return (
        lambda x, y, p: (torch.logaddexp(x, y), functional.logsigmoid(y), torch.logit(p), torch.logit(p, eps=0.2)),
        (x, y, p),
    )


def shrinking(rng: random.Random) -> Case:
    x = floats(rng, *some_shape(rng))
    return (
        lambda x: (functional.celu(x, 1.5), functional.hardshrink(x, 0.7), functional.softshrink(x, 0.3)),
        (x,),
    )


def signs(rng: random.Random) -> Case:
    shape = some_shape(rng)
    x, y = _apart(rng, *shape), _apart(rng, *shape)
    return (
        lambda x, y: (torch.trunc(x), torch.fix(y), torch.copysign(x, y), torch.hypot(x, y), torch.rad2deg(x),
                      torch.deg2rad(y), torch.special.erfc(x)),
        (x, y),
    )  # fmt: skip


def steps(rng: random.Random) -> Case:
    x = torch.tensor([-1.0, 0.0, 2.0])
    return (lambda x, v: torch.heaviside(x, v)), (x, torch.tensor([0.5, 0.25, 0.75]))


def products_with_logarithms(rng: random.Random) -> Case:
    return (lambda x, y: torch.xlogy(x, y)), (torch.tensor([0.0, 0.0, 2.0]), torch.tensor([0.0, 3.0, 0.5]))


def limits(rng: random.Random) -> Case:
    x = torch.tensor([1.0, -2.0, float("inf"), -float("inf"), 0.0])
    return (lambda x: (torch.isinf(x * 2), torch.isfinite(x * 2))), (x,)


@ways(
    addcmul, addcdiv, alpha, alpha_with_numbers, fmod, remainder_of_both_signs, of_integers,
    integer_quotient_as_an_index, roots_of_integers, reciprocals, powers_of_two, detached_views, between, logarithms,
    shrinking, signs, steps, products_with_logarithms, limits,
)  # fmt: skip
def test_elements_agree_with_torch(draw: Draw, method: str, half: bool, tmp_path: Path) -> None:
    agree(draw, method=method, half=half, folder=tmp_path)


@pytest.mark.parametrize("method", ["trace", "export"])
def test_zeros_written_into_a_part_are_kept(method: str, tmp_path: Path) -> None:
    def blank(x: torch.Tensor) -> torch.Tensor:
        y = x * 1
        y[1:].zero_()
        return y

    agree(lambda rng: (blank, (floats(rng, 3),)), method=method, half=False, folder=tmp_path)
