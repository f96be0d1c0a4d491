"""Scaled dot product attention against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from coreml_runtime.ops.transformers import scaled_dot_product_attention


def _formula(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype is torch.bool else scores + mask
    return scores.softmax(-1) @ value


@pytest.mark.parametrize(
    ("batch", "mask_shape"),
    [
        (batch, mask_shape)
        for batch in ((2,), (2, 3), (2, 1, 3))
        for mask_shape in (None, (7,), (5, 7), (1, 7), (*batch[-1:], 5, 7), (*batch[:-1], 1, 5, 7), (*batch, 5, 7))
    ],
)
@pytest.mark.parametrize("boolean", [True, False])
def test_attention_at_every_rank_and_with_every_mask(
    batch: tuple[int, ...], mask_shape: tuple[int, ...] | None, boolean: bool
) -> None:
    # given
    random = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(*batch, *size, generator=random) for size in ((5, 4), (7, 4), (7, 6)))
    mask = None if mask_shape is None else torch.randn(mask_shape, generator=random)
    if mask is not None and boolean:
        mask = mask > -0.5
        mask[..., 0] = True  # a row without any position has no meaning

    # when
    result = scaled_dot_product_attention(query=query, key=key, value=value, attn_mask=mask)

    # then: the fused kernel adds up in another order
    torch.testing.assert_close(result, _formula(query, key, value, mask), rtol=1e-5, atol=1e-6)
