"""MIL's random operators. With a seed, every run draws the same values; without (-1), the model's generator goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from coreml_runtime.ops.context import Context, is_real
from coreml_runtime.ops.table import Ints, table


def random_bernoulli(*, shape: Ints, prob: float = 0.5, seed: int = -1, context: Context) -> Tensor:
    """1 with probability `prob`, else 0."""
    return (_drawn(torch.rand, shape, seed, context) < prob).to(_dtype(context))


def random_categorical(*, x: Tensor, mode: str = "logits", size: int = 1, seed: int = -1, context: Context) -> Tensor:
    """`size` class numbers drawn with replacement from each distribution of x (*D, classes): (*D, size)."""
    weights = x.float().softmax(-1) if mode == "logits" else x.float()
    drawn = torch.multinomial(
        weights.reshape(-1, x.shape[-1]), size, replacement=True, generator=_generator(seed, context, x)
    )
    return drawn.reshape(*x.shape[:-1], size).to(_dtype(context))


def random_normal(*, shape: Ints, mean: float = 0.0, stddev: float = 1.0, seed: int = -1, context: Context) -> Tensor:
    """Normally distributed values."""
    return (_drawn(torch.randn, shape, seed, context) * stddev + mean).to(_dtype(context))


def random_uniform(*, shape: Ints, low: float = 0.0, high: float = 1.0, seed: int = -1, context: Context) -> Tensor:
    """Values spread evenly over [low, high)."""
    return (_drawn(torch.rand, shape, seed, context) * (high - low) + low).to(_dtype(context))


def _drawn(draw: Callable[..., Tensor], shape: Ints, seed: int, context: Context) -> Tensor:
    generator = _generator(seed, context, shape)
    return draw(shape) if generator is None else draw(shape, generator=generator)  # torch has no symbols for the latter


_BY_TORCH = ContextVar("_BY_TORCH", default=False)


@contextmanager
def drawn_by_torch() -> Iterator[None]:
    """Within, what is drawn without a seed comes from torch's own generator, as in every program of torch."""
    before = _BY_TORCH.set(True)
    try:
        yield
    finally:
        _BY_TORCH.reset(before)


def _generator(seed: int, context: Context, given: Ints | Tensor) -> torch.Generator | None:
    """None is torch's own. Raises ValueError in a trace where a seed is given, and the draw depends on an input."""
    if seed == -1:
        return None if _BY_TORCH.get() else context.generator
    if not is_real(given) if isinstance(given, Tensor) else any(type(size) is not int for size in given):
        raise ValueError(
            "it draws by a seed what depends on an input, and no other program draws the same by that seed"
        )
    return torch.Generator().manual_seed(seed)


def _dtype(context: Context) -> torch.dtype:
    declared = context.output_types[0]
    return torch.float32 if declared is None else context.held(declared.dtype)


OPS = table(random_bernoulli, random_categorical, random_normal, random_uniform)
