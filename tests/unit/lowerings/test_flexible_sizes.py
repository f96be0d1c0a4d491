"""Padding and resizing by sizes that the app decides, at every size of a range, against torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, channel_shuffle, interpolate, max_pool2d, pad

import coreml_runtime as runtime
from builder.artifacts.stages import LoadedModel
from builder.backends.coreml.convert import convert
from builder.data import make_examples
from builder.stages.capture import capture
from builder.stages.prepare import prepare
from tests.unit.stages.small_builds import make_spec


class Pads(nn.Module):
    """By a size, by what is left of a multiple (also nothing), by half, by less than nothing."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        n = x.shape[-1]
        return (
            pad(x, (1, x.size(-1))),
            pad(x, (0, (-n) % 4)),
            pad(x, (n // 2, 1 - n // 2), value=2.0),
            pad(x.int(), (0, n), value=7),
            pad(x[:, :, None], (1, 2, n % 3, 0)),
        )


class Modes(nn.Module):
    """With entries of the axis itself, whose order export cannot prove to be allowed."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        n = x.shape[-1]
        return (
            pad(x[:, None], (n - 1, n // 2), mode="reflect"),
            pad(x[:, None], (n // 2, n), mode="replicate"),
            pad(x[:, None], (n, n // 3), mode="circular"),
        )


class Resizes(nn.Module):
    """As U-Nets and pyramids of features do: to the size of another tensor, and by factors that are not whole."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = max_pool2d(x, 2)
        size = x.shape[-2:]
        return (
            interpolate(y, size=size, mode="bilinear"),
            interpolate(y, size=size, mode="bilinear", align_corners=True),
            interpolate(y, size=size, mode="nearest"),
            interpolate(x, scale_factor=1.5, mode="bilinear"),
            interpolate(x, scale_factor=(2.5, 0.5), mode="bilinear"),
            interpolate(x, scale_factor=1.5, mode="nearest"),
            interpolate(y, size=size, mode="nearest-exact"),
            interpolate(x, scale_factor=1.5, mode="nearest-exact"),
            interpolate(x[:, 0], size=y.shape[-1], mode="linear"),
            interpolate(x[:, 0], size=y.shape[-1] * 3, mode="nearest"),
        )


class Cubics(nn.Module):
    """As vision transformers resize the embeddings of places."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (
            interpolate(max_pool2d(x, 2), size=x.shape[-2:], mode="bicubic"),
            interpolate(x, size=(6, 5), mode="bicubic", align_corners=True),
            interpolate(x, scale_factor=1.5, mode="bicubic"),
        )


class Grids(nn.Module):
    """Evenly spaced places, and what resizes, pools, shuffles and goes round where only the app knows the sizes."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows, columns = (torch.linspace(-1, 1, size) for size in x.shape[-2:])
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
        return (
            torch.eye(x.shape[-1]) * 2, torch.eye(x.shape[-2], 5),
            grid[None], adaptive_avg_pool2d(x, 3), adaptive_avg_pool2d(x, (1, 4)), channel_shuffle(x, 2),
            interpolate(x, size=(6, 5), mode="bilinear"), interpolate(x, size=(6, 5)),
            pad(x, (3, 2, 1, 1), mode="circular"),
        )  # fmt: skip


class Rotated(nn.Module):
    """Attention that is rotated by complex numbers, as many as there are places, behind a mask made of the places."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("turns", torch.polar(torch.ones(19, 2), torch.arange(38.0).reshape(19, 2) / 7))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        length = x.shape[1]
        places = torch.view_as_complex(x.reshape(2, length, 2, 2) / 16)
        turned = torch.view_as_real(places * self.turns[:length]).flatten(2).unsqueeze(1)
        hidden = torch.arange(length)[None] >= torch.tensor([3, 40])[:, None]
        mask = torch.zeros_like(hidden, dtype=x.dtype).masked_fill(hidden, float("-inf"))
        mask = mask.view(2, 1, 1, length).expand(-1, 1, -1, -1)
        seen = nn.functional.scaled_dot_product_attention(turned, turned, x.unsqueeze(1), attn_mask=mask)
        scores = x @ x.mT / 64
        later = torch.full((length, length), float("-inf")).triu(1)
        past = torch.softmax(scores + later, -1) @ x / 8
        keys = x[:, None].repeat(1, 2, 1, 1) / 8
        queries = turned.repeat(1, 4, 1, 1) / 40
        grouped = nn.functional.scaled_dot_product_attention(queries, keys, keys, enable_gqa=True)
        apart = torch.tril(scores > 0.5, -1) + torch.triu(scores > 0.5, 2) * 1.0
        return x + seen[:, 0] / 4, turned, grouped, past, apart


class Sorted(nn.Module):
    """Places in the order of values, and running products and sums."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        some = x / 20
        return (
            x.median(1)[0] * 1, x.median().reshape(1) * 1, x.kthvalue(2, 1)[0] * 1, x.mode(1)[0] * 1,
            x.quantile(torch.tensor([0.25, 0.5, 0.9]), 1), (some * 0.1 + 1).cumprod(1), some.logcumsumexp(1),
            x.diff(dim=1),
        )  # fmt: skip


class Parts(nn.Module):
    """Parts of an axis, as many as the code says, and frames whose number is open."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        n = x.shape[1]
        first, second = x.chunk(2, 1)
        parts = torch.tensor_split(x, 3, 1)
        head, tail = x.split([2, n - 2], 1)
        frames = x.unfold(1, 4, 1) * torch.hann_window(4) / 8
        hot = nn.functional.one_hot(x.argmax(1), n)
        return (
            first * 1, second * 1, parts[0].sum(1), parts[2].sum(1), head * tail.sum(1, keepdim=True) / 8, hot * 1.0,
            torch.fft.rfft(frames).abs(), torch.fft.rfft(x / 8, n=16).real,
        )  # fmt: skip


class Numbers(nn.Module):
    """Running extremes where some are no numbers: these stay."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = torch.where((x > 17) & (x < 18), torch.nan, x)
        return x.cummax(1)[0] * 1, x.cummax(1)[1] * 1.0, x.cummin(1)[0] * 1, x.cummin(1)[1] * 1.0


class Maxima(nn.Module):
    """Maxima of a number of windows, and grids of maps, as spatial transformers have them."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = torch.tensor([[[0.5, 0.1, 0.0], [0.2, 0.7, -0.1]]]) * x.mean().clamp(1, 1)
        size = list(x.shape)
        corners = (nn.functional.affine_grid(maps, size, align_corners=align) for align in (False, True))
        return nn.functional.adaptive_max_pool2d(x, (3, 2)) * 1, *corners


class Chosen(nn.Module):
    """As many as a size says, of truths too, and conditions on sizes, which exported programs hold."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        n = x.shape[1]
        return (
            x.topk(n // 2, 1)[0] * 1, x.kthvalue(n // 2, 1)[0] * 1, (x > 9).amax(1) * 1.0, (x > 9).max(1)[0] * 1.0,
            nn.functional.avg_pool2d(x[:, None, :, None], (3, 1), (2, 1), (1, 0), divisor_override=5),
            pad(x, (0, torch.sym_max(8 - n, 0))), x + torch.sym_ite(n > 9, n, n + 3),
            x + torch.sym_ite(torch.sym_not(n < 6), n, 2 * n),
        )  # fmt: skip


class Runs(nn.Module):
    """Running extremes, windows, and the order of equals: places are numbers that float outputs hold."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        greatest, where = torch.cummax(x, 1)
        least, there = torch.cummin(x, 1)
        ordered, places = torch.sort(x, dim=1, stable=True)
        return (
            greatest * 1, where * 1.0, least * 1, there * 1.0, x.unfold(1, 3, 2) * 1, x[:, :, None].unfold(1, 2, 1) * 1,
            ordered * 1, places * 1.0,
        )  # fmt: skip


SIDE = {"min": 4, "max": 19, "default": 8}


EVERY, SOME = [(2, n) for n in range(4, 20)], [(1, 2, 4, 4), (1, 2, 7, 9), (1, 2, 16, 5), (1, 2, 19, 13)]


@pytest.mark.parametrize(
    ("module", "shape", "sizes", "method", "half"),
    [
        (Pads(), [2, SIDE], EVERY, "trace", False),
        (Pads(), [2, SIDE], EVERY, "export", True),
        (Modes(), [2, SIDE], EVERY, "trace", True),
        (Runs(), [2, SIDE | {"min": 5}], [(2, n) for n in (5, 8, 19)], "trace", False),
        (Runs(), [2, SIDE | {"min": 5}], [(2, n) for n in (5, 8, 19)], "export", True),
        (Chosen(), [2, SIDE], [(2, n) for n in (5, 8, 9, 10, 19)], "export", False),
        (Sorted(), [2, SIDE], [(2, n) for n in (4, 7, 19)], "trace", False),
        (Sorted(), [2, SIDE], [(2, n) for n in (4, 7, 19)], "export", True),
        (Parts(), [2, SIDE], [(2, n) for n in (4, 7, 19)], "trace", False),
        (Numbers(), [2, SIDE], [(2, n) for n in (4, 7, 19)], "trace", False),
        (Numbers(), [2, 9], [(2, 9)] * 3, "export", False),
        (Maxima(), [1, 2, SIDE, SIDE], SOME, "trace", True),
        (Rotated(), [2, SIDE, 4], [(2, n, 4) for n in (4, 7, 19)], "trace", False),
        (Rotated(), [2, SIDE, 4], [(2, n, 4) for n in (4, 7, 19)], "export", True),
        (Resizes(), [1, 2, SIDE, SIDE], SOME, "trace", False),
        (Resizes(), [1, 2, SIDE, SIDE], SOME, "export", True),
        (Grids(), [1, 2, SIDE, SIDE], SOME, "trace", False),
        (Cubics(), [1, 2, SIDE, SIDE], SOME, "trace", False),
        (Cubics(), [1, 2, SIDE, SIDE], SOME, "export", False),
        (Resizes(), [1, 2, 7, 9], SOME[1:2], "trace", True),
        (Resizes(), [1, 2, 7, 9], SOME[1:2], "export", False),
    ],
)
def test_each_size_gives_what_torch_gives(
    module: nn.Module, shape: list[object], sizes: list[tuple[int, ...]], method: str, half: bool, tmp_path: Path
) -> None:
    # given
    spec = make_spec(input={"x": {"kind": "tensor", "shape": shape}}, precision={"kind": "fp16" if half else "fp32"})
    examples = make_examples(spec)
    prepared = prepare(LoadedModel(module=module, digest="0" * 64, origin={}), examples, spec)
    # when
    captured = capture(prepared, examples, method, {}, strict=True)
    convert(prepared, captured, examples, spec).model.save(str(tmp_path / "m.mlpackage"))
    artifact = runtime.load(tmp_path / "m.mlpackage")
    # then
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        x = torch.rand(size, generator=generator).mul(40).round().div(2)  # halves, which half precision holds
        found = artifact.predict({"x": x.numpy()})
        for (name, got), wanted in zip(found.items(), module(x), strict=True):
            assert got.shape == tuple(wanted.shape), (name, size)
            np.testing.assert_allclose(
                got, wanted.numpy(), rtol=0, atol=0.02 if half else 4e-5, err_msg=f"{name} {size}"
            )
