"""A small text encoder: token ids to one vector, as search by meaning needs it."""

from __future__ import annotations

import torch
from torch import nn

from builder.model.sources.seeded import initialise_seeded


class TextEncoder(nn.Module):
    """Token ids (1, T) as int32 to an embedding of length 1 (1, width); id 0 is padding.

    Attention is written out with operators that convert to few Core ML operators.
    """

    def __init__(self, vocabulary: int, length: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(1, length, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Mean of the tokens' vectors, without padding."""
        given = (ids != 0).to(torch.float32)
        mask = (given - 1)[:, None, None, :] * 1e4  # added to scores; half precision ends at 65504
        x = self.tokens(ids) + self.positions
        for block in self.blocks:
            x = block(x, mask)
        weights = given / given.sum(1, keepdim=True).clamp(min=1.0)
        mean = (self.norm(x) * weights[:, :, None]).sum(1)
        unit: torch.Tensor = mean / mean.norm(dim=1, keepdim=True)
        return unit


class Block(nn.Module):
    """Self-attention and a feed-forward layer, each behind a layer norm (arXiv:2002.04745)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(1, T, width) to the same; `mask` (1, 1, 1, T) is added to the scores."""
        shape = x.shape
        parts = self.attention(self.attention_norm(x)).chunk(3, dim=-1)
        query, key, value = (part.reshape(shape[0], shape[1], self.heads, -1).transpose(1, 2) for part in parts)
        scores = query @ key.transpose(2, 3) * (shape[2] // self.heads) ** -0.5 + mask
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(shape)
        x = x + self.projection(mixed)
        feed: torch.Tensor = x + self.feed(self.feed_norm(x))
        return feed


def text_encoder(
    vocabulary: int = 2048, length: int = 32, width: int = 128, heads: int = 4, layers: int = 2, seed: int = 0
) -> nn.Module:
    """An encoder of `length` tokens with untrained weights, the same bits from one seed on every machine."""
    encoder = TextEncoder(vocabulary, length, width, heads, layers)
    initialise_seeded(encoder, (), seed)
    return encoder
