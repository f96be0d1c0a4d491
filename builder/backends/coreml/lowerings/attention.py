"""Attention whose heads share keys and values in groups, and attention with a mask of truths."""

from __future__ import annotations

from builder.backends.coreml.lowerings.half_masks import MASKED
from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import fixed_size, is_bool, promoted, selected, zeros_like

_HIDDEN = -3.4e38
"""Score of what a mask hides; half precision takes another number for it (`half_masks`)."""


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
    if attn_mask is not None and is_bool(attn_mask):
        return mb.matmul(x=_masked_softmax(mb, scores, attn_mask), y=value)
    if attn_mask is not None:
        scores = mb.add(x=scores, y=attn_mask)
    return mb.matmul(x=mb.softmax(x=scores, axis=-1), y=value)


def _masked_softmax(mb: Builder, scores: Var, mask: Var) -> Var:
    """Softmax over what the mask shows; zeros in rows where it shows nothing, as torch gives."""
    shares = mb.softmax(x=selected(mb, mask, scores, _HIDDEN), axis=-1)
    shown = mb.cast(x=mask, dtype="fp32")
    shares, shown = promoted(shares, shown)
    return mb.mul(x=shares, y=shown)


def masked_or_grouped_attention(
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
    """The case of attention that the arguments are."""
    if attn_mask is None or _is_grouped(query, key, enable_gqa):
        return grouped_attention(mb, query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    return masked_attention(mb, query, key, value, attn_mask, dropout_p, scale)


def masked_attention(
    mb: Builder, query: Var, key: Var, value: Var, attn_mask: Var, dropout_p: float = 0.0, scale: float | None = None
) -> Var:
    """`softmax(query @ key.T * scale) @ value` over the places where the mask is true, zeros where it nowhere is."""
    from coremltools import target
    from coremltools.converters.mil.mil.block import is_current_opset_version_compatible_with

    if dropout_p:
        raise NotImplementedError("attention with dropout draws random numbers, in a model that is evaluated too")
    alike = query.rank > 2 and query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
    if alike and scale is None and is_current_opset_version_compatible_with(target.iOS18):
        fused = mb.scaled_dot_product_attention(query=query, key=key, value=value, attn_mask=attn_mask)
        shown = mb.reduce_max(x=mb.cast(x=attn_mask, dtype="int32"), axes=[-1], keep_dims=True)
        return selected(mb, mb.cast(x=shown, dtype="bool"), fused, zeros_like(mb, fused))
    factor = scale if scale is not None else fixed_size(query, -1, "attention with a mask") ** -0.5
    scores = mb.matmul(x=mb.mul(x=query, y=float(factor)), y=key, transpose_y=True)
    return mb.matmul(x=_masked_softmax(mb, scores, attn_mask), y=value)


def flash_attention(
    mb: Builder,
    query: Var,
    key: Var,
    value: Var,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    attn_mask: Var | None = None,
    scale: float | None = None,
) -> tuple[Var, ...]:
    """What exported programs call it; the logarithms of sums serve training alone."""
    return (masked_or_grouped_attention(mb, query, key, value, attn_mask, dropout_p, is_causal, scale),)


def _for_each_query(mb: Builder, x: Var, heads: int) -> Var:
    """(…, groups, length, width) with each group as often as it has queries."""
    sizes = [fixed_size(x, axis, "grouped attention") for axis in range(x.rank)]
    times = heads // sizes[-3]
    if times == 1:
        return x
    apart = mb.reshape(x=x, shape=[-1, 1, sizes[-2], sizes[-1]])
    return mb.reshape(x=mb.tile(x=apart, reps=[1, times, 1, 1]), shape=[*sizes[:-3], heads, *sizes[-2:]])


def _is_grouped(query: Var, key: Var, enable_gqa: bool = False) -> bool:
    return bool(enable_gqa and query.shape[-3] != key.shape[-3])


def _may_hide_rows(attn_mask: Var | None = None) -> bool:
    """Whether the mask is one of truths that may hide all of a row: one that the input decides, or such a constant."""
    if attn_mask is None or not is_bool(attn_mask):
        return False
    return attn_mask.val is None or not bool(attn_mask.val.any(axis=-1).all())


def _is_grouped_or_hides_rows(query: Var, key: Var, attn_mask: Var | None = None, enable_gqa: bool = False) -> bool:
    return _is_grouped(query, key, enable_gqa) or _may_hide_rows(attn_mask)


_ROWS = "heads that share keys in groups, and rows of which a mask hides everything"

ATTENTION = (
    Lowering(
        operator="scaled_dot_product_attention",
        lower=masked_or_grouped_attention,
        lacks=_ROWS,
        applies=_is_grouped_or_hides_rows,
    ),
    Lowering(
        operator="_scaled_dot_product_flash_attention_for_cpu",
        lower=flash_attention,
        lacks="rows of which a mask hides everything",
        applies=_may_hide_rows,
    ),
)
