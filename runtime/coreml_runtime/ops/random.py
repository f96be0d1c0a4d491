"""MIL's random operators. With a seed, every run draws the same values; without (-1), the model's generator goes on."""

from __future__ import annotations

import torch
from torch import Tensor

from coreml_runtime.ops.context import Context
from coreml_runtime.ops.table import Ints, table


def random_bernoulli(*, shape: Ints, prob: float = 0.5, seed: int = -1, context: Context) -> Tensor:
    """1 with probability `prob`, else 0."""
    return (torch.rand(shape, generator=_generator(seed, context)) < prob).to(_dtype(context))


def random_categorical(*, x: Tensor, mode: str = "logits", size: int = 1, seed: int = -1, context: Context) -> Tensor:
    """`size` class numbers drawn with replacement from each distribution of x (*D, classes): (*D, size)."""
    weights = x.float().softmax(-1) if mode == "logits" else x.float()
    drawn = torch.multinomial(
        weights.reshape(-1, x.shape[-1]), size, replacement=True, generator=_generator(seed, context)
    )
    return drawn.reshape(*x.shape[:-1], size).to(_dtype(context))


def random_normal(*, shape: Ints, mean: float = 0.0, stddev: float = 1.0, seed: int = -1, context: Context) -> Tensor:
    """Normally distributed values."""
    return (torch.randn(shape, generator=_generator(seed, context)) * stddev + mean).to(_dtype(context))


def random_uniform(*, shape: Ints, low: float = 0.0, high: float = 1.0, seed: int = -1, context: Context) -> Tensor:
    """Values spread evenly over [low, high)."""
    return (torch.rand(shape, generator=_generator(seed, context)) * (high - low) + low).to(_dtype(context))


def _generator(seed: int, context: Context) -> torch.Generator:
    return context.generator if seed == -1 else torch.Generator().manual_seed(seed)


def _dtype(context: Context) -> torch.dtype:
    declared = context.output_types[0]
    return torch.float32 if declared is None else context.held(declared.dtype)


OPS = table(random_bernoulli, random_categorical, random_normal, random_uniform)
