"""Small models whose inputs and outputs the tests declare in every way that a recipe knows."""

from __future__ import annotations

import torch
from torch import nn


class Same(nn.Module):
    """Returns what it is given, so that the artifact shows its own normalisation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape)


class Network(nn.Module):
    """A small fully convolutional network, (N, channels, H, W) to (N, classes)."""

    def __init__(self, channels: int = 3, classes: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)
        self.head = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().mean((2, 3)))


class Stretch(nn.Module):
    """Flattens all but the batch: needs one size."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.linear = nn.Linear(length, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1))


class Sequence(nn.Module):
    """Token ids and a mask of one length, (1, length) each, to one vector."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.linear = nn.Linear(6, 5)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = mask.to(torch.float32).unsqueeze(-1)
        return self.linear((self.embedding(ids) * weights).sum(1) / weights.sum(1).clamp(min=1.0))


class Frozen(nn.Module):
    """Reads a size as a Python number, so that tracing freezes it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, int(x.shape[1]) * 2, -1).mean(2)


class Blend(nn.Module):
    """Three inputs of three dtypes."""

    def forward(self, picture: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor) -> dict[str, torch.Tensor]:
        blended = picture * gain + shift.to(torch.float32)
        return {"blend": blended, "best": blended.argmax(1), "sizes": (blended.amax((2, 3)), blended.amin((2, 3)))}


class Summary(nn.Module):
    """A number and the array that it is the mean of."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.mean(), x * 2


class Scaled(nn.Module):
    """One input that an app may leave out."""

    def forward(self, x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return x * gain + gain


class Cache(nn.Module):
    """Keeps the last keys, as a decoder does: what comes in pushes the oldest out."""

    keys: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("keys", torch.zeros(1, 3, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.keys[:] = torch.cat([self.keys[:, 1:], self.linear(x)], dim=1)
        return torch.softmax(x @ self.keys.transpose(1, 2), dim=-1) @ self.keys


class Decoder(nn.Module):
    """A cache and a counter in modules of their own."""

    total: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache()
        self.register_buffer("total", torch.zeros(1, 4))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.cache(x)
        self.total.add_(y.sum(1))
        return y, self.total * 0.5


class Painter(nn.Module):
    """A picture from a picture, in values of 0 to 1 for levels of 0 to 255; grey has one channel."""

    def __init__(self, channels: int = 3, gain: float = 1.2) -> None:
        super().__init__()
        self.channels, self.gain = channels, gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, : self.channels] - 0.5) * self.gain + 0.5


class Segmenter(nn.Module):
    """Classes of pixels: logits (1, 3, H, W), their best class (1, H, W), and the same as a picture of grey levels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = self.conv(x)
        best = logits.argmax(1)
        return logits, best, best.unsqueeze(1).to(torch.float32) * 100
