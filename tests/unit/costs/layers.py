"""Ten layers of each kind that multiplies, in one module for each kind."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Each(nn.Module):
    """Every layer on the same input."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(x) for layer in self.layers)


def convolutions() -> nn.Module:
    """On (1, 4, 12, 16)."""
    conv = nn.Conv2d
    return Each(
        conv(4, 8, 3), conv(4, 8, 3, padding=1), conv(4, 8, 5, stride=2), conv(4, 4, 3, groups=4),
        conv(4, 8, 1, groups=2), conv(4, 6, 3, dilation=2), conv(4, 6, (1, 7)),
        conv(4, 8, 3, stride=(2, 3), padding=(2, 0), bias=False),
        conv(4, 8, 2, padding="same"), nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 5, 9, stride=4)),
    )  # fmt: skip


def transposed() -> nn.Module:
    """On (1, 4, 5, 6)."""
    conv = nn.ConvTranspose2d
    return Each(
        conv(4, 8, 3), conv(4, 8, 3, stride=2), conv(4, 8, 3, padding=1), conv(4, 8, 4, stride=2, padding=1),
        conv(4, 8, 3, groups=2), conv(4, 4, 2, groups=4, bias=False), conv(4, 2, (2, 3), stride=(2, 1)), conv(4, 1, 1),
        conv(4, 3, 3, dilation=2), nn.Sequential(nn.Flatten(2), nn.ConvTranspose1d(4, 6, 5, stride=3)),
    )  # fmt: skip


def linears() -> nn.Module:
    """On (2, 3, 8)."""
    return Each(*(nn.Linear(8, size, bias=size % 2 == 0) for size in range(3, 13)))


class Products(nn.Module):
    """a (2, 3, 4, 6) and b (2, 3, 6, 5), multiplied in ten ways."""

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return (
            a @ b, b.transpose(2, 3) @ a.transpose(2, 3), a @ b[0], a[0] @ b, a[:, :1] @ b,
            a[0, 0] @ b[0, 0], a @ a.transpose(2, 3), a[0] @ b[:, :1],
            torch.matmul(a[0, 0, 0], b[0, 0]), a[:1, :, :2] @ b,
        )  # fmt: skip


class Attention(nn.Module):
    """q (2, 3, 7, 8), k (2, 3, 9, 8), v (2, 3, 9, 4), attended to in ten ways."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        attend = functional.scaled_dot_product_attention
        few = (q[:, :, : n + 1] for n in range(5))
        return (*(attend(each, k, v) for each in few), *(attend(q, k[:, :, :n], v[:, :, :n]) for n in (2, 3, 4, 5, 6)))
