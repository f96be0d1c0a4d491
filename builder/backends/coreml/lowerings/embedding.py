"""Bags of embeddings: rows of a table, added up, averaged or maximised by bag."""

from __future__ import annotations

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import fixed_size, positive

_SUM, _MEAN, _MAX = range(3)
_LOWEST = -3e4
"""Less than any entry of a table, and held by half precision."""


def embedding_bag(
    mb: Builder,
    weight: Var,
    indices: Var,
    offsets: Var,
    scale_grad_by_freq: bool = False,
    mode: int = _SUM,
    sparse: bool = False,
    per_sample_weights: Var | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Var, ...]:
    """Rows of `weight` (V, D) at `indices` (N,), bag b from `offsets[b]` up to the next one: (B, D).

    Given: `embedding_bag(weight, indices, offsets, mode)`.

    Result: a matrix (B, N) that says which row is in which bag, times the rows (N, D); the maximum over rows for `max`.
    """
    del scale_grad_by_freq, sparse  # they concern training
    if isinstance(indices.shape[0], int) is False:
        raise NotImplementedError("an embedding bag of a flexible number of indices is not converted")
    indices, offsets = (mb.cast(x=v, dtype="int32") for v in (indices, offsets))
    rows = mb.gather(x=weight, indices=indices, axis=0)
    member = _membership(mb, indices, offsets, include_last_offset=bool(include_last_offset))
    if padding_idx is not None:
        padding_idx = positive(padding_idx, fixed_size(weight, 0, "an embedding bag"))
        counts = mb.cast(x=mb.not_equal(x=indices, y=padding_idx), dtype="fp32")
        member = mb.mul(x=member, y=mb.expand_dims(x=counts, axes=[0]))
    if mode == _MAX:
        return (_maximum(mb, rows, member),)
    summed = member
    if per_sample_weights is not None:
        summed = mb.mul(x=member, y=mb.expand_dims(x=per_sample_weights, axes=[0]))
    bags = mb.matmul(x=summed, y=rows)
    if mode == _MEAN:
        sizes = mb.maximum(x=mb.reduce_sum(x=member, axes=[1], keep_dims=True), y=1.0)
        bags = mb.real_div(x=bags, y=sizes)
    return (bags,)


def _membership(mb: Builder, indices: Var, offsets: Var, *, include_last_offset: bool) -> Var:
    """1.0 where row n lies in bag b, else 0.0: (B, N)."""
    import numpy as np

    count, bags = int(indices.shape[0]), int(offsets.shape[0]) - int(include_last_offset)
    places = np.arange(count, dtype=np.int32).reshape(1, count)
    begins = mb.slice_by_size(x=offsets, begin=[0], size=[bags])
    if include_last_offset:
        ends = mb.slice_by_size(x=offsets, begin=[1], size=[bags])
    elif bags > 1:
        ends = mb.concat(values=[mb.slice_by_size(x=offsets, begin=[1], size=[bags - 1]), [np.int32(count)]], axis=0)
    else:
        ends = mb.const(val=np.array([count], dtype=np.int32))
    begins, ends = (mb.expand_dims(x=v, axes=[1]) for v in (begins, ends))
    inside = mb.logical_and(x=mb.greater_equal(x=places, y=begins), y=mb.less(x=places, y=ends))
    return mb.cast(x=inside, dtype="fp32")


def _maximum(mb: Builder, rows: Var, member: Var) -> Var:
    """The greatest entries of the rows of each bag; zeros for one without any."""
    inside = mb.expand_dims(x=member, axes=[2])  # (B, N, 1)
    outside = mb.mul(x=mb.sub(x=1.0, y=inside), y=_LOWEST)
    kept = mb.add(x=mb.mul(x=mb.expand_dims(x=rows, axes=[0]), y=inside), y=outside)
    largest = mb.reduce_max(x=kept, axes=[1], keep_dims=False)
    filled = mb.reduce_max(x=member, axes=[1], keep_dims=True)
    return mb.mul(x=largest, y=filled)


def embedding_bag_or_none(
    mb: Builder,
    weight: Var,
    indices: Var,
    offsets: Var,
    scale_grad_by_freq: bool = False,
    mode: int = _SUM,
    sparse: bool = False,
    per_sample_weights: Var | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[Var, ...]:
    """What exported programs call it: there -1 says that no row is padding."""
    row = None if padding_idx == -1 else padding_idx
    settings = (scale_grad_by_freq, mode, sparse, per_sample_weights, include_last_offset, row)
    return embedding_bag(mb, weight, indices, offsets, *settings)


EMBEDDING = (
    *(Lowering(operator=name, lower=embedding_bag) for name in ("embedding_bag", "embedding_bag.padding_idx")),
    *(
        Lowering(operator=name, lower=embedding_bag_or_none)
        for name in ("_embedding_bag", "_embedding_bag_forward_only")
    ),
)
