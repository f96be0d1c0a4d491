"""Attention whose heads share keys and values in groups, and attention with a mask of truths."""

from __future__ import annotations

from numbers import Integral

from builder.backends.coreml.lowerings.flexible_sizes import is_open
from builder.backends.coreml.lowerings.half_masks import MASKED
from builder.backends.coreml.lowerings.lowering import Builder, Lowering, UpstreamBug, Var
from builder.backends.coreml.lowerings.variables import (
    as_float,
    fixed_shape,
    fixed_size,
    is_bool,
    promoted,
    selected,
    zeros_like,
)

_HIDDEN = -3.4e38
"""Score of what a mask hides, and what traces write for minus infinity; `half_masks` makes it finite in half."""


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
    if dropout_p:
        raise NotImplementedError(
            "attention with dropout draws random numbers, in a model that is evaluated too: "
            "write `dropout_p=p if self.training else 0.0`"
        )
    key, value = (_for_each_query(mb, query, x) if enable_gqa else x for x in (key, value))
    factor = scale if scale is not None else fixed_size(query, -1, "grouped attention") ** -0.5
    scores = mb.matmul(x=mb.mul(x=query, y=float(factor)), y=key, transpose_y=True)
    if is_causal:
        scores = selected(mb, _causal(mb, query, key), scores, _HIDDEN)
    if attn_mask is not None and (is_bool(attn_mask) or _may_hide_rows(attn_mask)):
        return mb.matmul(x=_masked_softmax(mb, scores, attn_mask), y=value)
    if attn_mask is not None:
        scores = mb.add(x=scores, y=attn_mask)
    return mb.matmul(x=mb.softmax(x=scores, axis=-1), y=value)


def _causal(mb: Builder, query: Var, key: Var) -> Var:
    """(queries, keys): whether a key comes no later than the query."""
    import numpy as np

    sizes = [query.shape[-2], key.shape[-2]]
    if all(isinstance(size, Integral) for size in sizes):
        return mb.const(val=np.tril(np.ones([int(size) for size in sizes], dtype=bool)))
    lengths = [mb.slice_by_size(x=mb.shape(x=x), begin=[x.rank - 2], size=[1]) for x in (query, key)]
    return mb.band_part(x=mb.fill(shape=mb.concat(values=lengths, axis=0), value=True), lower=-1, upper=0)


def _masked_softmax(mb: Builder, scores: Var, mask: Var) -> Var:
    """Softmax over what the mask shows; zeros in rows where it shows nothing."""
    if is_bool(mask) and not _may_hide_rows(mask):
        return mb.softmax(x=selected(mb, mask, scores, _HIDDEN), axis=-1)
    if is_bool(mask):
        shares, shown = promoted(
            mb.softmax(x=selected(mb, mask, scores, _HIDDEN), axis=-1), mb.cast(x=mask, dtype="fp32")
        )
        return mb.mul(x=shares, y=shown)
    shares = mb.softmax(x=mb.add(x=scores, y=mask), axis=-1)
    return selected(mb, _shows_something(mb, mask), shares, zeros_like(mb, shares))


def safe_softmax(mb: Builder, x: Var, dim: int, dtype: int | None = None) -> Var:
    """Softmax with zeros where all along the axis is minus infinity."""
    del dtype
    x = as_float(x)
    shares = mb.softmax(x=x, axis=dim)
    some = mb.greater(x=mb.reduce_max(x=x, axes=[dim], keep_dims=True), y=_HIDDEN)
    return selected(mb, some, shares, zeros_like(mb, shares))


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
    """`softmax(query @ key.T * scale + mask) @ value`, zeros in rows where the mask shows nothing, as torch gives."""
    if dropout_p:
        raise NotImplementedError("attention with dropout draws random numbers, in a model that is evaluated too")
    alike = query.rank > 2 and query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
    if alike and scale is None and _is_fused():
        result = mb.scaled_dot_product_attention(query=query, key=key, value=value, attn_mask=attn_mask)
        return selected(mb, _shows_something(mb, attn_mask), result, zeros_like(mb, result))
    factor = scale if scale is not None else fixed_size(query, -1, "attention with a mask") ** -0.5
    scores = mb.matmul(x=mb.mul(x=query, y=float(factor)), y=key, transpose_y=True)
    return mb.matmul(x=_masked_softmax(mb, scores, attn_mask), y=value)


def _shows_something(mb: Builder, mask: Var) -> Var:
    """Whether a row of a mask, of truths or of summands, leaves anything: (…, rows, 1)."""
    if is_bool(mask):
        return mb.cast(x=mb.reduce_max(x=mb.cast(x=mask, dtype="int32"), axes=[-1], keep_dims=True), dtype="bool")
    return mb.greater(x=mb.reduce_max(x=mask, axes=[-1], keep_dims=True), y=-MASKED / 2)


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


def _for_each_query(mb: Builder, query: Var, x: Var) -> Var:
    """(…, groups, length, width) with each group as often as it has queries."""
    if not _is_grouped(query, x, True):
        return x
    heads = fixed_size(query, -3, "grouped attention")
    if is_open(list(x.shape)):
        groups = fixed_size(x, -3, "grouped attention")
        return mb.gather(x=x, indices=[group // (heads // groups) for group in range(heads)], axis=x.rank - 3)
    sizes = fixed_shape(x, "grouped attention")
    times = heads // sizes[-3]
    apart = mb.reshape(x=x, shape=[-1, 1, sizes[-2], sizes[-1]])
    return mb.reshape(x=mb.tile(x=apart, reps=[1, times, 1, 1]), shape=[*sizes[:-3], heads, *sizes[-2:]])


def _is_grouped(query: Var, key: Var, enable_gqa: bool = False) -> bool:
    return bool(enable_gqa and query.rank > 2 and query.shape[-3] != key.shape[-3])


def _may_hide_rows(attn_mask: Var | None = None) -> bool:
    """Whether a mask may hide all of a row: one that the input decides, or such a constant.

    Of summands only infinity hides: torch shows all of a row that has the least finite number everywhere.
    """
    import numpy as np

    if attn_mask is None:
        return False
    if attn_mask.val is not None:
        value = np.asarray(attn_mask.val)
        return not bool((value if is_bool(attn_mask) else value > _HIDDEN).any(axis=-1).all())
    return is_bool(attn_mask) or _is_made_of_infinity(attn_mask, set())


def _is_made_of_infinity(var: Var, seen: set[Var]) -> bool:
    """Whether minus infinity is among the constants that a variable is made of; traces write it as -3.4e38."""
    import numpy as np

    seen.add(var)
    if getattr(var, "val", None) is not None:
        value = np.asarray(var.val)
        return value.dtype.kind == "f" and bool((np.isneginf(value) | (value == np.float32(_HIDDEN))).any())
    inputs = [] if var.op is None else var.op.inputs.values()
    flat = [each for given in inputs for each in (given if isinstance(given, list | tuple) else (given,))]
    return any(_is_made_of_infinity(each, seen) for each in flat if each not in seen)


def _is_grouped_or_hidden(
    query: Var,
    key: Var,
    attn_mask: Var | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> bool:
    return _is_grouped(query, key, enable_gqa) or _is_hidden(attn_mask, is_causal, scale)


def _is_hidden(attn_mask: Var | None = None, is_causal: bool = False, scale: float | None = None) -> bool:
    """Whether a mask may hide all of a row, or coremltools would write truths as 0 and -3e4."""
    truths = is_causal or (attn_mask is not None and is_bool(attn_mask))
    return _may_hide_rows(attn_mask) or (truths and not (_is_fused() and scale is None))


def _is_fused() -> bool:
    """Whether the target has an operator for attention."""
    from coremltools import target
    from coremltools.converters.mil.mil.block import is_current_opset_version_compatible_with

    return bool(is_current_opset_version_compatible_with(target.iOS18))


_ROWS = "heads that share keys in groups, rows of which a mask hides everything, and scores beyond its own -3e4"

ATTENTION = (
    Lowering(
        operator="_safe_softmax",
        lower=safe_softmax,
        wrong=UpstreamBug(issue=None, summary="makes NaN where everything is minus infinity"),
    ),
    Lowering(
        operator="scaled_dot_product_attention",
        lower=masked_or_grouped_attention,
        upstream_gap=_ROWS,
        applies=_is_grouped_or_hidden,
    ),
    Lowering(
        operator="_scaled_dot_product_flash_attention_for_cpu",
        lower=flash_attention,
        upstream_gap="rows of which a mask hides everything, and scores beyond its own -3e4",
        applies=_is_hidden,
    ),
)
