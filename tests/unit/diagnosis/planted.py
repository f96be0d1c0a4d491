"""Small modules that each plant one obstacle, on the line that ends in `# planted`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


class Planted(nn.Module):
    """Holds an obstacle two levels below the root, as `body.1`."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Identity(), inner)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Function(nn.Module):
    """A module of a function; its line is the function's own."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Holder(nn.Module):
    """A module of torch's inside one of ours, called on the marked line."""

    def __init__(self, held: nn.Module) -> None:
        super().__init__()
        self.held = held

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        returned = self.held(x)  # planted
        return returned[0] if isinstance(returned, tuple) else returned


def diff(x: torch.Tensor) -> torch.Tensor:
    return torch.diff(x)  # planted


def svd(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.svd(x)[1]  # planted


def det(x: torch.Tensor) -> torch.Tensor:
    return torch.det(x).reshape(1)  # planted


def scaled_slice(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y[:, 0:2].mul_(3.0)  # planted
    return y


def added_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.view(-1).add_(3.0)  # planted
    return y


def zeroed_slice(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y[:, 0:2].zero_()  # planted
    return y


def copied_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.view(-1).copy_(x.reshape(-1) * 2)  # planted
    return y


def given_out(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    torch.mul(x[:, 0:2], 3.0, out=y[:, 0:2])  # planted
    return y


def rank_6(x: torch.Tensor) -> torch.Tensor:
    y = x.view(1, 2, 2, 2, 2, 2) + torch.arange(2.0)  # planted
    return y.mean(3).reshape(1, -1)


def rank_6_rewritten(x: torch.Tensor) -> torch.Tensor:
    y = x.view(2, 2, 2, 2, 2) + torch.arange(2.0)
    return y.mean(2).reshape(1, -1)


def windows(x: torch.Tensor) -> torch.Tensor:
    return x.view(1, 2, 2, 2, 2, 2).permute(0, 1, 3, 2, 4, 5).reshape(1, -1)


def big_integer(x: torch.Tensor) -> torch.Tensor:
    return x + ((x.int().long() + 2**40) % 7).float()  # planted


def big_integer_rewritten(x: torch.Tensor) -> torch.Tensor:
    return x + ((x.int() + 2**40 % 7) % 7).float()


def integer_root(x: torch.Tensor) -> torch.Tensor:
    return torch.sqrt(x.abs().int())  # planted


def integer_root_rewritten(x: torch.Tensor) -> torch.Tensor:
    return torch.sqrt(x.abs().int().float())


def complex_rotation(x: torch.Tensor) -> torch.Tensor:
    turned = torch.view_as_complex(x.reshape(2, 4, 2)) * torch.polar(torch.ones(4), torch.arange(4.0))  # planted
    return torch.view_as_real(turned)


def attention_dropout(x: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(x, x, x, dropout_p=0.1)  # planted


def attention_dropout_rewritten(x: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(x, x, x, dropout_p=0.0)


def grouped_attention(x: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True)  # planted


def bicubic_grid(x: torch.Tensor) -> torch.Tensor:
    grid = x[:, :2].permute(0, 2, 3, 1).tanh()
    return functional.grid_sample(x, grid, mode="bicubic", align_corners=False)  # planted


def middle(x: torch.Tensor) -> torch.Tensor:
    return torch.median(x, 1)[0]  # planted


def quartile(x: torch.Tensor) -> torch.Tensor:
    return torch.quantile(x, 0.25, dim=1)  # planted


def most_frequent(x: torch.Tensor) -> torch.Tensor:
    return torch.mode(x.round(), 1)[0]  # planted


def greatest_of_each(x: torch.Tensor) -> torch.Tensor:
    index = torch.arange(8).expand(2, 8) % 3
    return torch.zeros(2, 3).scatter_reduce(1, index, x, "amax", include_self=False)  # planted


def repeated(x: torch.Tensor) -> torch.Tensor:
    return x.repeat_interleave(torch.tensor([1, 3]), 0)  # planted


def diagonal(x: torch.Tensor) -> torch.Tensor:
    return torch.diagonal(x, 1)  # planted


def inverse(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.inv(x + 6 * torch.eye(6))  # planted


def strided(x: torch.Tensor) -> torch.Tensor:
    return torch.as_strided(x * 1, (2, 3), (8, 2))  # planted


def variance(x: torch.Tensor) -> torch.Tensor:
    return sum(torch.var_mean(x, dim=1))  # planted


def distances(x: torch.Tensor) -> torch.Tensor:
    return torch.cdist(x, x * 2)  # planted


def remainder(x: torch.Tensor) -> torch.Tensor:
    return torch.fmod(x, 0.3)  # planted


def buckets(x: torch.Tensor) -> torch.Tensor:
    return torch.bucketize(x, torch.arange(3.0)).float()  # planted


def bits(x: torch.Tensor) -> torch.Tensor:
    return (x.int() ^ 5).float()  # planted


def spectrum(x: torch.Tensor) -> torch.Tensor:
    return torch.fft.fft2(x).real  # planted


def random_bits(x: torch.Tensor) -> torch.Tensor:
    return torch.bernoulli(x.sigmoid())  # planted


def branch(x: torch.Tensor) -> torch.Tensor:
    if x[0, 0] > x[1, 1]:  # planted
        return x * 2
    return x - 1


def branch_rewritten(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x[0, 0] > x[1, 1], x * 2, x - 1)


def number(x: torch.Tensor) -> torch.Tensor:
    return x * float(x.max())  # planted


def number_rewritten(x: torch.Tensor) -> torch.Tensor:
    return x * x.max()


def unshuffle(x: torch.Tensor) -> torch.Tensor:
    return functional.pixel_unshuffle(x, 2)  # planted


def infinite_triangle(x: torch.Tensor) -> torch.Tensor:
    return torch.triu(x + torch.full((2, 8), -math.inf), diagonal=1)  # planted


def infinite_triangle_rewritten(x: torch.Tensor) -> torch.Tensor:
    mask = torch.ones(2, 8, dtype=torch.bool).triu(1)
    return torch.where(mask, x + torch.full((2, 8), -math.inf), 0.0)


def greatest(x: torch.Tensor) -> torch.Tensor:
    return torch.argmax(x).float().reshape(1)  # planted


def greatest_rewritten(x: torch.Tensor) -> torch.Tensor:
    return x.flatten().argmax(0).float().reshape(1)


class Difference(nn.Module):
    """A module with a line of its own: an exported program knows those of `forward` only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sub(x, x * 3, alpha=2)  # planted


def difference_rewritten(x: torch.Tensor) -> torch.Tensor:
    return x - 2 * (x * 3)


def power(x: torch.Tensor) -> torch.Tensor:
    return 2.0**x  # planted


def power_rewritten(x: torch.Tensor) -> torch.Tensor:
    return torch.exp(x * math.log(2))


def double(x: torch.Tensor) -> torch.Tensor:
    return (x.double() * 2).float()  # planted


def byte(x: torch.Tensor) -> torch.Tensor:
    return (x.abs() * 10).to(torch.uint8).float()  # planted


def positions(x: torch.Tensor) -> torch.Tensor:
    return torch.nonzero(x > 0).float()  # planted


@dataclass(frozen=True, kw_only=True)
class Case:
    """An obstacle, and what `doctor` has to say of it."""

    inner: Callable[[], nn.Module]
    operator: str | None
    """As torch names it; None where it is not an operator."""
    shape: tuple[int, ...] = (2, 8)
    method: str = "trace"
    target: str = "ios18"
    module: str = "body.1"
    rewritten: Callable[[torch.Tensor], torch.Tensor] | None = None
    """What the advice comes to, where the remedy is to write something else."""
    is_random: bool = False
    """Whether it gives something else each time, so that the rewritten one cannot be held against it."""
    line_of: Callable[..., object] | None = None
    """Whose line is marked; that of `Holder.forward` unless given."""


def _function(function: Callable[[torch.Tensor], torch.Tensor], operator: str | None, **more: object) -> Case:
    return Case(inner=lambda: Function(function), operator=operator, line_of=function, **more)


def _held(make: Callable[[], nn.Module], operator: str, **more: object) -> Case:
    given = {"module": "body.1.held"} | more
    return Case(inner=lambda: Holder(make()), operator=operator, line_of=Holder.forward, **given)


def _spectral() -> nn.Module:
    return nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))


VOLUME, PICTURE = (1, 2, 4, 4, 4), (1, 4, 8, 8)

CASES = {
    "diff": _function(diff, "diff"),
    "svd": _function(svd, "linalg_svd"),
    "det": _function(det, "linalg_det", shape=(3, 3)),
    "spectrum": _function(spectrum, "fft_fft2"),
    "random_bits": _function(random_bits, "bernoulli"),
    "bicubic": _held(lambda: nn.Upsample(scale_factor=2, mode="bicubic"), "upsample_bicubic2d", shape=PICTURE),
    "nearest_exact": _held(
        lambda: nn.Upsample(scale_factor=2, mode="nearest-exact"), "_upsample_nearest_exact2d", shape=PICTURE
    ),
    "trilinear": _held(lambda: nn.Upsample(scale_factor=2, mode="trilinear"), "upsample_trilinear3d", shape=VOLUME),
    "adaptive_3d": _held(lambda: nn.AdaptiveAvgPool3d(2), "adaptive_avg_pool3d", shape=VOLUME),
    "dilated_pool": _held(lambda: nn.MaxPool2d(2, dilation=2, stride=1), "max_pool2d", shape=PICTURE),
    "circular": _held(lambda: nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular"), "pad", shape=PICTURE),
    "channel_shuffle": _held(lambda: nn.ChannelShuffle(2), "channel_shuffle", shape=PICTURE),
    "spectral_norm": _held(_spectral, "vdot", module="body.1.held.parametrizations.weight.0"),
    "lstm": _held(lambda: nn.LSTM(8, 4), "lstm", shape=(3, 2, 8), method="export"),
    "rms_norm": _held(lambda: nn.RMSNorm(8), "rms_norm", method="export"),
    "scaled_slice": _function(scaled_slice, "mul_"),
    "added_view": _function(added_view, "add_"),
    "zeroed_slice": _function(zeroed_slice, "zero_"),
    "copied_view": _function(copied_view, "copy_"),
    "given_out": _function(given_out, "mul"),
    "rank_6": _function(rank_6, "add", shape=(1, 2, 4, 4), rewritten=rank_6_rewritten),
    "big_integer": _function(big_integer, "add", rewritten=big_integer_rewritten),
    "integer_root": _function(integer_root, "sqrt", rewritten=integer_root_rewritten),
    "complex": _function(complex_rotation, "view_as_complex"),
    "attention_dropout": _function(
        attention_dropout,
        "scaled_dot_product_attention",
        shape=(1, 2, 4, 8),
        rewritten=attention_dropout_rewritten,
        is_random=True,
    ),
    "grouped_attention": _function(grouped_attention, "scaled_dot_product_attention", shape=(1, 4, 4, 8)),
    "bicubic_grid": _function(bicubic_grid, "grid_sampler", shape=PICTURE),
    "median": _function(middle, "median"),
    "quantile": _function(quartile, "quantile"),
    "mode": _function(most_frequent, "mode"),
    "scatter_reduce": _function(greatest_of_each, "scatter_reduce"),
    "repeat_interleave": _function(repeated, "repeat_interleave"),
    "diagonal": _function(diagonal, "diagonal", shape=(3, 3)),
    "inverse": _function(inverse, "linalg_inv", shape=(6, 6)),
    "padded_volume": _held(
        lambda: nn.ConvTranspose3d(2, 3, 3, stride=2, padding=1, output_padding=1), "_convolution", shape=VOLUME
    ),
    "strided": _function(strided, "as_strided"),
    "variance": _function(variance, "var_mean"),
    "distances": _function(distances, "cdist"),
    "remainder": _function(remainder, "fmod"),
    "buckets": _function(buckets, "bucketize"),
    "bits": _function(bits, "__xor__"),
    "branch": _function(branch, None, rewritten=branch_rewritten),
    "number": _function(number, None, rewritten=number_rewritten),
    "unshuffle": _function(unshuffle, "pixel_unshuffle", shape=PICTURE, target="ios15"),
    "infinite_triangle": _function(infinite_triangle, "triu", rewritten=infinite_triangle_rewritten),
    "greatest": _function(greatest, "argmax", rewritten=greatest_rewritten),
    "difference": Case(
        inner=Difference,
        operator="sub",
        method="export",
        rewritten=difference_rewritten,
        line_of=Difference.forward,
    ),
    "power": _function(power, "pow", rewritten=power_rewritten),
}
"""Each is in the way, unless a lowering of ours takes it out of it."""

NOTES = {
    "double": _function(double, "to"),
    "byte": _function(byte, "to"),
    "positions": _function(positions, "nonzero"),
}
"""Each converts, and is worth a look."""
