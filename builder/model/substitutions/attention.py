"""Multi-head attention as projections, products and a softmax (arXiv:1706.03762, section 3.2.2)."""

from __future__ import annotations

import torch
from torch.nn import functional

MASKED = -3e4
"""What a masked score becomes: its exponential is 0, and half precision holds it, unlike the infinity it stands for."""


class ExplicitAttention(torch.nn.Module):
    """The same as torch.nn.MultiheadAttention, called the same way.

    Where every key of a query is masked, it gives the average of the values; torch gives 0 or NaN.
    """

    bias_k: torch.Tensor | None
    bias_v: torch.Tensor | None

    def __init__(self, old: torch.nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim, self.num_heads, self.head_dim = old.embed_dim, old.num_heads, old.head_dim
        self.batch_first, self.add_zero_attn = old.batch_first, old.add_zero_attn
        self.in_proj_bias = None
        self._qkv_same_embed_dim = False  # torch.nn.TransformerEncoderLayer reads both
        if old.in_proj_weight is not None:
            weights: list[torch.Tensor] = list(old.in_proj_weight.chunk(3))
        else:
            separate = (old.q_proj_weight, old.k_proj_weight, old.v_proj_weight)
            weights = [weight for weight in separate if weight is not None]
        biases = [None] * 3 if old.in_proj_bias is None else list(old.in_proj_bias.chunk(3))
        frozen = not next(old.parameters()).requires_grad
        self.query_projection, self.key_projection, self.value_projection = (
            _linear(weight, bias, frozen=frozen) for weight, bias in zip(weights, biases, strict=True)
        )
        out = old.out_proj
        self.out_projection = _linear(out.weight, out.bias, frozen=not out.weight.requires_grad)
        self.bias_k, self.bias_v = old.bias_k, old.bias_v
        self.dropout = torch.nn.Dropout(old.dropout)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend: query (N, L, E) where `batch_first`, else (L, N, E), or (L, E); key and value with S for L.

        `key_padding_mask` is (N, S), or (S); `attn_mask` is (L, S) or (N * heads, L, S); both boolean, True where
        masked, or added to the scores. Returns the output, shaped like `query`, and the weights: None,
        (N, L, S), or (N, heads, L, S) of each head; without N where the input has none. `is_causal` says that
        `attn_mask` is a causal mask, and that is what is used.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
        batched = query.dim() == 3
        if not batched:
            query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
        output, weights = self._attend(query, key, value, self._mask(attn_mask, key_padding_mask, query.dtype))
        if not batched:
            output = output.squeeze(0)
        elif not self.batch_first:
            output = output.transpose(0, 1)
        if not need_weights:
            return output, None
        weights = weights.mean(dim=1) if average_attn_weights else weights
        return output, weights if batched else weights.squeeze(0)

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, L, E), (N, S, K), (N, S, V) to the output (N, L, E) and weights (N, heads, L, S)."""
        batch, length = query.shape[0], query.shape[1]
        queries = self._heads(self.query_projection(query) * self.head_dim**-0.5)
        keys, values = self._more(self.key_projection(key), self.value_projection(value))
        scores = torch.matmul(queries, self._heads(keys).transpose(-2, -1))
        weights = self.dropout(torch.softmax(scores if mask is None else scores + mask, dim=-1))
        attended = torch.matmul(weights, self._heads(values))
        output = self.out_projection(attended.transpose(1, 2).reshape(batch, length, self.embed_dim))
        return output, weights

    def _heads(self, projected: torch.Tensor) -> torch.Tensor:
        """(N, L, E) to (N, heads, L, E / heads)."""
        batch, length = projected.shape[0], projected.shape[1]
        return projected.reshape(batch, length, self.num_heads, self.head_dim).transpose(1, 2)

    def _more(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the learned key and value, and those of zeros, if there are any."""
        if self.bias_k is not None and self.bias_v is not None:
            batch = keys.shape[0]
            keys = torch.cat([keys, self.bias_k.expand(batch, 1, -1)], dim=1)
            values = torch.cat([values, self.bias_v.expand(batch, 1, -1)], dim=1)
        if self.add_zero_attn:
            keys, values = functional.pad(keys, (0, 0, 0, 1)), functional.pad(values, (0, 0, 0, 1))
        return keys, values

    def _mask(
        self, attention: torch.Tensor | None, padding: torch.Tensor | None, dtype: torch.dtype
    ) -> torch.Tensor | None:
        """Both masks as what is added to scores: broadcasts to (N, heads, L, S); None where nothing is masked."""
        masks = []
        if attention is not None:
            added = _added(attention, dtype)
            if added.dim() == 3:
                added = added.reshape(-1, self.num_heads, added.shape[-2], added.shape[-1])
            masks.append(added)
        if padding is not None:
            masks.append(_added(padding, dtype)[:, None, None, :])
        if not masks:
            return None
        mask = masks[0] if len(masks) == 1 else (masks[0] + masks[1]).clamp(min=MASKED)
        more = int(self.bias_k is not None) + int(self.add_zero_attn)
        return functional.pad(mask, (0, more)) if more else mask


def multi_head_attention(old: torch.nn.MultiheadAttention) -> torch.nn.Module:
    """Spell attention out in operators that every capture method and Core ML version knows.

    Given: `attention(query, key, value, key_padding_mask, need_weights, attn_mask, …)`, self or cross, batch first or
    not, with learned or zero keys.

    Result: linear projections of each, `softmax(Q K^T / sqrt(d) + mask) V` per head, and the output projection; the
    weights are returned where they were. Masked scores become -30000, which half precision holds.
    """
    return ExplicitAttention(old)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None, *, frozen: bool) -> torch.nn.Linear:
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = torch.nn.Parameter(weight.detach().clone(), requires_grad=not frozen)
    if bias is not None:
        linear.bias = torch.nn.Parameter(bias.detach().clone(), requires_grad=not frozen)
    return linear


def _added(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask as what is added to scores: 0 and MASKED for a boolean one."""
    if mask.dtype == torch.bool:
        return mask.to(dtype) * MASKED
    return mask.to(dtype).clamp(min=MASKED)
