"""Casts that coreai-core folds away or rounds in another way than torch, written so that it cannot.

The optimiser takes float to int to float for nothing (apple/coreai-torch#9, still so in coreai-core 1.0.0b3), and casts
to narrow integers saturate where torch's wrap. Delete each when the fixed version is the oldest that we support.
"""

from __future__ import annotations

from torch import bool as boolean
from torch import dtype, iinfo, int8, int16, int32, ops, uint8, uint16
from torch.fx import Node

from builder.backends.coreai.passes.edit import Edit, dtype_of

_CASTS = (ops.aten._to_copy.default, ops.aten.to.dtype)
_BITS = {int8: 8, uint8: 8, int16: 16, uint16: 16}


def exact_casts(edit: Edit) -> int:
    """Truncate before a cast from float to int, and wrap before a cast to a narrow one; returns how many changed.

    Given:   to(x: float32, int64)           to(x: int32, int8)
    Result:  to(trunc(x), int64)             to(((x + 128) & 255) - 128, int8)

    A float goes to int32 on its way to a narrow one, unless it was cut to numbers that this holds, as pictures are.
    """
    count = 0
    for node in edit.calls(*_CASTS):
        source, target = node.args[0], dtype_of(node)
        given = dtype_of(source)
        if not isinstance(source, Node) or given is None or target is None or boolean in (given, target):
            continue
        if target.is_floating_point or target.is_complex or given.is_complex:
            continue
        if given.is_floating_point:
            exact = edit.before(node, ops.aten.trunc.default, source)
            if target in _BITS and not _is_clamped(source, target):
                whole = edit.before(node, ops.aten._to_copy.default, exact, dtype=int32)
                exact = _wrapped(edit, node, whole, _BITS[target], signed=target in (int8, int16))
        elif target in _BITS and _BITS.get(given, 32) > _BITS[target]:
            exact = _wrapped(edit, node, source, _BITS[target], signed=target in (int8, int16))
        else:
            continue
        node.args = (exact, *node.args[1:])
        count += 1
    edit.finish()
    return count


def _is_clamped(source: Node, target: dtype) -> bool:
    """Whether a value is what a clamp leaves within the range of a type."""
    limits = source.args[1:3] if source.target is ops.aten.clamp.default else ()
    known = [limit for limit in limits if isinstance(limit, int | float)]
    return len(known) == 2 and iinfo(target).min <= min(known) and max(known) <= iinfo(target).max


def _wrapped(edit: Edit, node: Node, x: Node, bits: int, *, signed: bool) -> Node:
    half = 1 << (bits - 1)
    if signed:
        x = edit.before(node, ops.aten.add.Tensor, x, half)
    mask = edit.before(node, ops.aten.full_like.default, x, (1 << bits) - 1)
    x = edit.before(node, ops.aten.bitwise_and.Tensor, x, mask)
    return edit.before(node, ops.aten.sub.Tensor, x, half) if signed else x
