"""torch's TransformerEncoder as it computes in evaluation: rows that are padding are zero.

There it packs rows that are no padding into a nested tensor, where that is allowed, and fills up with zeros. Neither a
trace nor an exported program can hold that, so the layers compute all rows, and padding is set to zero behind them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def padding_set_to_zero() -> Iterator[None]:
    """Within the block, encoders that would pack their rows write zeros instead."""
    original: Any = nn.TransformerEncoder.forward

    def forward(
        self: Any,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        if src_key_padding_mask is None or mask is not None or not _packs(self, src):
            output: Tensor = original(self, src, mask, src_key_padding_mask, is_causal)
            return output
        hidden = src_key_padding_mask
        hidden = hidden if hidden.dtype == torch.bool else hidden != 0
        output = src
        for layer in self.layers:
            output = layer(output, src_key_padding_mask=src_key_padding_mask)
        if getattr(self, "mask_check", True):  # only padding at the end is packed
            before, after = hidden[:, :-1].int(), hidden[:, 1:].int()
            hidden = hidden & (before <= after).all()
        output = torch.where(hidden[..., None], 0.0, output)
        return output if self.norm is None else self.norm(output)

    nn.TransformerEncoder.forward = forward  # type: ignore[method-assign]  # for the time of the block
    try:
        yield
    finally:
        nn.TransformerEncoder.forward = original  # type: ignore[method-assign]  # as it was


def _packs(encoder: nn.TransformerEncoder, src: Tensor) -> bool:
    """Whether torch's own conditions hold, as `nn.TransformerEncoder.forward` states them."""
    return bool(getattr(encoder, "use_nested_tensor", False)) and src.dim() == 3 and not encoder.layers[0].training
