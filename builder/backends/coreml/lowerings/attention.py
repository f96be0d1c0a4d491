"""Attention whose heads share keys and values in groups."""

from __future__ import annotations

from builder.backends.coreml.lowerings.half_masks import MASKED
from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import fixed_size, is_bool


def grouped_attention(
    mb: Builder,
    query: Var,
    key: Var,
    value: Var,
    attn_mask: Var | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Var:
    """`softmax(query @ key.T * scale + mask) @ value` of (…, heads, length, width); each key serves several queries."""
    import numpy as np

    del enable_gqa
    if dropout_p:
        raise NotImplementedError("attention with dropout draws random numbers, in a model that is evaluated too")
    heads = fixed_size(query, -3, "grouped attention")
    key, value = (_for_each_query(mb, x, heads) for x in (key, value))
    factor = scale if scale is not None else fixed_size(query, -1, "grouped attention") ** -0.5
    scores = mb.matmul(x=mb.mul(x=query, y=float(factor)), y=key, transpose_y=True)
    if is_causal:
        sizes = [fixed_size(scores, axis, "causal attention") for axis in (-2, -1)]
        scores = mb.add(x=scores, y=np.triu(np.full(sizes, -MASKED, dtype=np.float32), 1))
    if attn_mask is not None:
        scores = mb.add(x=scores, y=_as_summand(mb, attn_mask))
    return mb.matmul(x=mb.softmax(x=scores, axis=-1), y=value)


def _for_each_query(mb: Builder, x: Var, heads: int) -> Var:
    """(…, groups, length, width) with each group as often as it has queries."""
    sizes = [fixed_size(x, axis, "grouped attention") for axis in range(x.rank)]
    times = heads // sizes[-3]
    if times == 1:
        return x
    apart = mb.reshape(x=x, shape=[-1, 1, sizes[-2], sizes[-1]])
    return mb.reshape(x=mb.tile(x=apart, reps=[1, times, 1, 1]), shape=[*sizes[:-3], heads, *sizes[-2:]])


def _as_summand(mb: Builder, mask: Var) -> Var:
    if not is_bool(mask):
        return mask
    return mb.mul(x=mb.sub(x=mb.cast(x=mask, dtype="fp32"), y=1.0), y=MASKED)


def _is_grouped(query: Var, key: Var, enable_gqa: bool = False) -> bool:
    return bool(enable_gqa and query.shape[-3] != key.shape[-3])


ATTENTION = (
    Lowering(
        operator="scaled_dot_product_attention",
        lower=grouped_attention,
        lacks="heads that share keys in groups",
        applies=_is_grouped,
    ),
)
