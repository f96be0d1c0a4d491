"""Pooling, padding, resizing and windows of pictures."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch.nn import functional

from tests.unit.lowerings.agreement import Case, Draw, agree, floats, ways


def adaptive_pooling(rng: random.Random) -> Case:
    x = floats(rng, *[1] * rng.randint(0, 1), rng.randint(1, 3), *(rng.randint(1, 7) for _ in "dhw"))
    size = tuple(rng.randint(1, 4) for _ in "dhw")
    size = tuple(min(a, b) for a, b in zip(size, x.shape[-3:], strict=True))
    return (
        lambda x: (functional.adaptive_avg_pool3d(x, size), functional.adaptive_max_pool3d(x, size),
                   functional.adaptive_avg_pool3d(x, (None, 1, 1))),
        (x,),
    )  # fmt: skip


def dilated_pooling(rng: random.Random) -> Case:
    kernel, gap = rng.randint(2, 3), rng.randint(2, 3)
    stride, padding, ceil = rng.randint(1, 3), rng.randint(0, kernel // 2), rng.random() < 0.5
    span = gap * (kernel - 1) + 1
    x = floats(rng, 1, 2, span + rng.randint(0, 4), span + rng.randint(0, 4)) - 3  # padding would win with zeros
    return (
        lambda x: (
            functional.max_pool2d(x, kernel, stride, padding, gap, ceil),
            functional.max_pool1d(x[0], kernel, stride, padding, gap, ceil),
        ),
        (x,),
    )


def dilated_pooling_of_volumes(rng: random.Random) -> Case:
    return (lambda x: functional.max_pool3d(x, 2, 1, 1, 2)), (floats(rng, 1, 2, 4, 5, 3) - 3,)


def padding(rng: random.Random) -> Case:
    x = floats(rng, 1, 2, *(rng.randint(3, 5) for _ in "dhw"))
    width = [rng.randint(0, 2) for _ in range(6)]
    return (
        lambda x: (
            functional.pad(x, width, "circular"), functional.pad(x, width, "reflect"),
            functional.pad(x, width, "replicate"), functional.pad(x[0], width[:4], "circular"),
            functional.pad(x[0, 0], width[:2], "circular"), functional.pad(x[0], width[:4], "reflect"),
        ),
        (x,),
    )  # fmt: skip


def cutting(rng: random.Random) -> Case:
    """Negative widths, as of RWKV's shift of time: at least one, and what is left of each axis is not empty."""
    x = floats(rng, 2, 5, 6)
    width = [-1, rng.randint(-1, 2), rng.randint(-2, 2), rng.randint(-2, 2)]
    return (
        lambda x: (
            functional.pad(x, width), functional.pad(x, width, value=2.5), functional.pad(x, (0, 0, 1, -1)),
            functional.pad(x, (-2, -1)), functional.pad(x.sign().int(), width, value=3),
        ),
        (x,),
    )  # fmt: skip


def circular_convolution(rng: random.Random) -> Case:
    module = torch.nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular").requires_grad_(False)
    return module, (floats(rng, 1, 2, rng.randint(3, 6), rng.randint(3, 6)),)


def bicubic(rng: random.Random) -> Case:
    """Anti-aliased to widths from 2 on: to a width of 1 torch 2.13 itself repeats its first row."""
    x, corners = floats(rng, 1, 2, rng.randint(2, 6), rng.randint(2, 6)), rng.random() < 0.5
    size, factor = (rng.randint(1, 9), rng.randint(2, 9)), rng.choice([0.5, 1.5, 2.0, (0.75, 3.0)])
    return (
        lambda x: (
            functional.interpolate(x, size, mode="bicubic", align_corners=corners),
            functional.interpolate(x, scale_factor=factor, mode="bicubic", align_corners=corners),
            functional.interpolate(x, size, mode="bicubic", align_corners=corners, antialias=True),
        ),
        (x,),
    )


def trilinear(rng: random.Random) -> Case:
    x, corners = floats(rng, 1, 2, *(rng.randint(2, 4) for _ in "dhw")), rng.random() < 0.5
    size = tuple(rng.randint(1, 6) for _ in "dhw")
    return (
        lambda x: (
            functional.interpolate(x, size, mode="trilinear", align_corners=corners),
            functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=corners),
        ),
        (x,),
    )


def nearest(rng: random.Random) -> Case:
    x, size = floats(rng, 1, 2, *(rng.randint(2, 5) for _ in "dhw")), tuple(rng.randint(1, 9) for _ in "dhw")
    return (
        lambda x: (
            functional.interpolate(x, size, mode="nearest-exact"), functional.interpolate(x, size, mode="nearest"),
            functional.interpolate(x[0], size[:2], mode="nearest-exact"),
            functional.interpolate(x[0, 0][None], size[0:1], mode="nearest-exact") if x.dim() == 3 else
            functional.interpolate(x[0, 0], size[0], mode="nearest-exact"),
            functional.interpolate(x[0], scale_factor=1.5, mode="nearest-exact"),
        ),
        (x,),
    )  # fmt: skip


def folding(rng: random.Random) -> Case:
    kernel = (rng.randint(1, 3), rng.randint(1, 3))
    stride, gap, pad = (rng.randint(1, 3), rng.randint(1, 3)), rng.randint(1, 2), rng.randint(0, 1)
    size = tuple(gap * (k - 1) + 1 + rng.randint(0, 5) for k in kernel)
    counts = [(s + 2 * pad - gap * (k - 1) - 1) // t + 1 for s, k, t in zip(size, kernel, stride, strict=True)]
    x = floats(rng, rng.randint(1, 2), 2 * kernel[0] * kernel[1], counts[0] * counts[1])
    return (lambda x: functional.fold(x, size, kernel, gap, pad, stride)), (x,)


def unfolding(rng: random.Random) -> Case:
    kernel, stride, gap, pad = rng.randint(1, 3), rng.randint(1, 2), rng.randint(1, 2), rng.randint(0, 1)
    x = floats(rng, 1, 2, rng.randint(5, 7), rng.randint(5, 7))
    return (
        lambda x: (functional.unfold(x, kernel, gap, pad, stride), functional.unfold(x[0], kernel, gap, pad, stride)),
        (x,),
    )


@ways(
    adaptive_pooling, dilated_pooling, dilated_pooling_of_volumes, padding, cutting, circular_convolution, bicubic,
    trilinear, nearest, folding, unfolding,
)  # fmt: skip
def test_pictures_agree_with_torch(draw: Draw, method: str, half: bool, tmp_path: Path) -> None:
    agree(draw, method=method, half=half, folder=tmp_path)
