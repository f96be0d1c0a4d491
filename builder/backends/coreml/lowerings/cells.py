"""Recurrent cells, one step each, and what compiled loops over them consist of: sizes of lists, and new tensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from builder.backends.coreml.lowerings.flexible_sizes import is_open
from builder.backends.coreml.lowerings.lowering import Builder, Constant, Lowering, Sizes, UpstreamBug, Var
from builder.backends.coreml.lowerings.shape import open_chunks
from builder.backends.coreml.lowerings.variables import fixed_size, is_bool, promoted


def gru_cell(mb: Builder, x: Var, h: Var, w_x: Var, w_h: Var, b_x: Var | None = None, b_h: Var | None = None) -> Var:
    """The next state (N, H) of `torch.nn.GRUCell`: `n + z (h - n)` with n = tanh(W x + r (U h))."""
    ours = _parts(mb, _linear(mb, x, w_x, b_x), 3)
    theirs = _parts(mb, _linear(mb, h, w_h, b_h), 3)
    reset, update = (mb.sigmoid(x=mb.add(x=ours[gate], y=theirs[gate])) for gate in (0, 1))
    new = mb.tanh(x=mb.add(x=ours[2], y=mb.mul(x=reset, y=theirs[2])))
    return mb.add(x=new, y=mb.mul(x=update, y=mb.sub(x=h, y=new)))


def lstm_cell(
    mb: Builder, x: Var, hx: Sequence[Var], w_x: Var, w_h: Var, b_x: Var | None = None, b_h: Var | None = None
) -> tuple[Var, Var]:
    """The next output and memory (N, H) of `torch.nn.LSTMCell`; gates are in the order i, f, g, o."""
    h, memory = hx
    gates = mb.add(x=_linear(mb, x, w_x, b_x), y=_linear(mb, h, w_h, b_h))
    i, f, g, o = _parts(mb, gates, 4)
    kept = mb.mul(x=mb.sigmoid(x=f), y=memory)
    memory = mb.add(x=kept, y=mb.mul(x=mb.sigmoid(x=i), y=mb.tanh(x=g)))
    return mb.mul(x=mb.sigmoid(x=o), y=mb.tanh(x=memory)), memory


def _rnn_cell(
    activation: str,
    mb: Builder,
    x: Var,
    h: Var,
    w_x: Var,
    w_h: Var,
    b_x: Var | None = None,
    b_h: Var | None = None,
) -> Var:
    return getattr(mb, activation)(x=mb.add(x=_linear(mb, x, w_x, b_x), y=_linear(mb, h, w_h, b_h)))


def _linear(mb: Builder, x: Var, weight: Var, bias: Var | None) -> Var:
    x, weight = promoted(x, weight)
    product = mb.matmul(x=x, y=weight, transpose_y=True)
    return product if bias is None else mb.add(x=product, y=promoted(product, bias)[1])


def _parts(mb: Builder, x: Var, count: int) -> tuple[Var, ...]:
    return tuple(mb.split(x=x, num_splits=count, axis=-1))


def unsafe_chunk(mb: Builder, x: Var, chunks: int, dim: int = 0) -> tuple[Var, ...]:
    """`chunks` parts of one size along an axis, the last one smaller where they do not fit."""
    if is_open([x.shape[dim]]):
        return open_chunks(mb, x, chunks, dim)
    size = fixed_size(x, dim, "chunk")
    part = -(-size // chunks)
    sizes = [min(part, size - begin) for begin in range(0, size, part)]
    return tuple(mb.split(x=x, split_sizes=sizes, axis=dim)) if len(sizes) > 1 else (x,)


def _is_open_along(x: Var, dim: int = 0) -> bool:
    return is_open([x.shape[dim]])


def getitem(mb: Builder, x: Var, index: int) -> Var:
    """An entry of a tensor's shape, which a compiled program takes as a list."""
    return mb.squeeze(x=mb.slice_by_index(x=x, begin=[index], end=[index + 1 or x.shape[0]]), axes=[0])


def _is_shape(x: Var) -> bool:
    """Whether it is all sizes of a tensor, of which coremltools gives all for the first."""
    return _is_variable(x) and x.op is not None and x.op.op_type == "shape"


def _is_variable(x: object) -> bool:
    return hasattr(x, "rank")


def length(mb: Builder, x: Sizes) -> Var:
    """`len` of a list, or of a tensor along its first axis."""
    if isinstance(x, list | tuple):
        return mb.const(val=len(x))
    size = mb.slice_by_size(x=mb.shape(x=x), begin=[0], size=[1])
    return mb.squeeze(x=size, axes=[0])


def contains(mb: Builder, items: Constant, item: Var) -> Var:
    """Whether a size is among numbers."""
    found = [mb.equal(x=item, y=int(each)) for each in items]
    whole = found[0] if found else mb.const(val=False)
    for each in found[1:]:
        whole = mb.logical_or(x=whole, y=each)
    return whole


def negation(mb: Builder, x: Var) -> Var:
    """Python's `not` of a branch's condition."""
    return mb.logical_not(x=x if is_bool(x) else mb.cast(x=x, dtype="bool"))


CELLS = (
    Lowering(operator="gru_cell", lower=gru_cell),
    Lowering(operator="lstm_cell", lower=lstm_cell),
    Lowering(operator="rnn_tanh_cell", lower=partial(_rnn_cell, "tanh")),
    Lowering(operator="rnn_relu_cell", lower=partial(_rnn_cell, "relu")),
    Lowering(operator="unsafe_chunk", lower=unsafe_chunk),
    *(
        Lowering(operator=name, lower=unsafe_chunk, upstream_gap="sizes that the app chooses", applies=_is_open_along)
        for name in ("constantchunk", "chunk")
    ),
    Lowering(operator="contains", lower=contains),
    Lowering(operator="not", lower=negation),
    Lowering(operator="len", lower=length),
    Lowering(
        operator="getitem",
        lower=getitem,
        wrong=UpstreamBug(issue=None, summary="takes all sizes for the first, and refuses the others"),
        applies=_is_shape,
    ),
)
