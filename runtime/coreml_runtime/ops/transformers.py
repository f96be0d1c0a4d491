"""MIL's transformer operator: scaled dot product attention (iOS18)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops.table import table


def scaled_dot_product_attention(
    *, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
) -> Tensor:
    """softmax(Q K^T / sqrt(E) + mask) V over query (B, *, L, E), key (B, *, S, E), value (B, *, S, EV).

    A boolean mask says what takes part, a floating one is added; it broadcasts to (B, *, L, S). The work is done on
    four dimensions, because torch has its fast kernel for those only.
    """
    batch = query.shape[:-2]
    heads = batch[-1]
    if attn_mask is not None:
        if attn_mask.is_floating_point():
            attn_mask = attn_mask.to(query.dtype)
        if attn_mask.dim() > 4 or (query.dim() != 4 and attn_mask.dim() > 2):
            attn_mask = attn_mask.expand(*batch, *attn_mask.shape[-2:]).reshape(-1, heads, *attn_mask.shape[-2:])
        elif attn_mask.dim() != 2:
            attn_mask = attn_mask[(None,) * (4 - attn_mask.dim())]
    q, k, v = (tensor.reshape(-1, heads, *tensor.shape[-2:]) for tensor in (query, key, value))
    result = functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
    return result.reshape(*query.shape[:-1], value.shape[-1])


OPS = table(scaled_dot_product_attention)
