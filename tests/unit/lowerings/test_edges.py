"""What torch's own operator tests found: ends of dtypes, small numbers, sums that just fit, dropout."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from builder.errors import ConversionError
from tests.unit.lowerings.agreement import Case, Draw, agree, convert, ways


def row(*values: float) -> Tensor:
    return torch.tensor([values]).half().float()


def narrow_integers(rng: random.Random) -> Case:
    """Of floats that 32 bits hold; beyond the dtype torch takes the lowest bits."""
    kinds = (torch.uint8, torch.int8, torch.int16)
    return (
        lambda x, i: tuple(each.to(kind) for each in (x, i, i > 0) for kind in kinds),
        (row(1, -1, 127, 128, 255, 256, -129, 300.5, 32760, -32768),
         torch.tensor([[1, -1, 128, 255, 256, 32768, -32769, 70001, 2**24 + 1, -(2**31)]], dtype=torch.int32)),
    )  # fmt: skip


def new_arrays(rng: random.Random) -> Case:
    """Integers stay whole beside integers, and floats are floats beside floats."""
    return (
        lambda i, x: (
            i.new_zeros(3) + i, i.new_full((3,), 7) + i, i.new_ones(3) * i, i.new_empty(3).fill_(1) * i,
            torch.full((3,), 2**20 + 1) + i, x.new_full((3,), 1) / 2 * x, i.new_zeros(3, dtype=torch.float32) + x,
            torch.diag_embed(i, -1, 0, 1), torch.full((3,), 2.5) * x,
            torch.eye(3, dtype=torch.int32) * i, torch.eye(2, 3, dtype=torch.int64) * i, torch.eye(3) * x,
            torch.eye(2, 3) * x, torch.empty(3, dtype=torch.int32).fill_(3) + i,
        ),
        (torch.tensor([2**24 + 1, 70001, -2049], dtype=torch.int32), row(0.5, -2.0, 3.0)[0]),
    )  # fmt: skip


def small_numbers(rng: random.Random) -> Case:
    """Each is brought to the scale of one, where the comparison sees it."""
    x = row(1e-4, -2e-4, 6e-5, 0.0)
    return (
        lambda x: (
            torch.log1p(x) * 4096, torch.special.ndtri(x.abs()), functional.soft_margin_loss(-x * 4096, x) * 4,
            torch.log1p(x * 8192 + 1), torch.log1p(x * 0 - 1), torch.erfinv(x * 4096), torch.sinc(x * 4096),
        ),
        (x,),
    )  # fmt: skip


def far_numbers(rng: random.Random) -> Case:
    ends = row(60000, -60000, 300, 0, 1, -300, 2, 20001).reshape(1, 1, 2, 2, 2)
    return (
        lambda x: (
            torch.sinc(x), torch.log1p(x.abs()), torch.renorm(x[0, 0, 0], 2, 0, 1.0), torch.renorm(x[0, 0], 1, 2, 8.0),
            torch.renorm(x[0, 0], float("inf"), 0, 4e4), functional.avg_pool3d(x, 2, 1, 1, True, True),
            functional.avg_pool2d(x[0], 2, 1, divisor_override=3),
            torch.xlogy(x.abs() / 1e4 + 1, x.relu()),
            1 / (torch.linalg.vector_norm(x, 0, (0, 1, 2)) + 0.5), torch.linalg.vector_norm(x, 0) / 4,
        ),
        (ends,),
    )  # fmt: skip


def losses(rng: random.Random) -> Case:
    x, target = row(3e4, 0, 1, -2, 0, 0, 0, 0).reshape(4, 2), torch.tensor([1.0, -1.0, 1.0, -1.0])
    return (
        lambda x, y, t: (
            functional.cosine_embedding_loss(x, y, t),
            functional.cosine_embedding_loss(x, y, t, 0.25, reduction="none"),
            functional.cosine_embedding_loss(x[0], y[1], t[0], reduction="sum"),
        ),
        (x, torch.flip(x, (0,)) + 0.5, target),
    )  # fmt: skip


def everything_dropped(rng: random.Random) -> Case:
    return lambda x: (functional.dropout(x, 1.0), functional.dropout2d(x, 1.0), functional.dropout(x, 0.5, False)), (
        row(1, 2, 3).reshape(1, 1, 1, 3),
    )


@ways(narrow_integers, new_arrays, small_numbers, far_numbers)
def test_edges(draw: Draw, method: str, half: bool, tmp_path: Path) -> None:
    agree(draw, method=method, half=half, folder=tmp_path, count=1, target="iOS16")


@pytest.mark.parametrize("draw", [losses, everything_dropped])
def test_parts_of_training(draw: Draw, tmp_path: Path) -> None:
    agree(draw, method="trace", half=True, folder=tmp_path, count=1)


@pytest.mark.parametrize("drop", [functional.dropout, functional.alpha_dropout, functional.dropout3d])
def test_dropout_that_is_on_in_evaluation_is_refused(drop) -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return drop(x, 0.5, training=True)

    with pytest.raises(ConversionError, match=r"pass `training=self.training`"):
        convert(Model().eval(), [torch.ones(1, 2, 3, 3, 3)], method="trace", half=False)
