"""Tensors of more than five dimensions, which Core ML lacks: the same elements in fewer.

A window partition (Swin, Hiera, MaxViT) reads (B, H, W, C) as (B, H/w, w, W/w, w, C), transposes and reads it anew.
Here such a tensor is its elements in one dimension and a shape that only we know: reshapes change that shape alone, a
transpose becomes several of four dimensions, whatever works along one axis sees (before, axis, after), and what works
on each element sees the elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

from builder.backends.coreml.lowerings.lowering import Builder, Var
from builder.backends.coreml.lowerings.transposes import MOST, transposes

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Block, Operation, Program
    from coremltools.converters.mil.mil.scope import ScopeInfo


@dataclass(frozen=True, kw_only=True)
class Flat:
    """A tensor of many dimensions: its elements in one, and its shape."""

    elements: Var
    """(N,)"""
    shape: tuple[int, ...]


Rewrite = Callable[[Builder, "Operation", Flat], Sequence[Flat]]
"""Takes an operator and its input x; returns its outputs."""


def _reshape(mb: Builder, op: Operation, x: Flat) -> Sequence[Flat]:
    del mb
    return [Flat(elements=x.elements, shape=tuple(op.outputs[0].shape))]


def _transpose(mb: Builder, op: Operation, x: Flat) -> Sequence[Flat]:
    elements = x.elements
    for shape, perm in transposes(x.shape, [int(axis) % len(x.shape) for axis in op.perm.val]):
        elements = mb.transpose(x=mb.reshape(x=elements, shape=shape), perm=perm)
    return [Flat(elements=mb.reshape(x=elements, shape=[-1]), shape=tuple(op.outputs[0].shape))]


def _around(mb: Builder, x: Flat, axis: int) -> Var:
    """The elements as (before, axis, after)."""
    axis %= len(x.shape)
    shape = [math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])]
    return mb.reshape(x=x.elements, shape=shape)


def _flat(mb: Builder, x: Var, shape: Sequence[int]) -> Flat:
    return Flat(elements=mb.reshape(x=x, shape=[-1]), shape=tuple(shape))


def _reduce(mb: Builder, op: Operation, x: Flat) -> Sequence[Flat]:
    """One axis after the other, the last first, so that the others keep their numbers."""
    given = getattr(op, "axes", None)
    axes = sorted({int(axis) % len(x.shape) for axis in given.val}, reverse=True) if given is not None else None
    for axis in range(len(x.shape) - 1, -1, -1) if axes is None else axes:
        reduced = getattr(mb, op.op_type)(x=_around(mb, x, axis), axes=[1], keep_dims=False)
        x = _flat(mb, reduced, [*x.shape[:axis], 1, *x.shape[axis + 1 :]])
    return [Flat(elements=x.elements, shape=tuple(op.outputs[0].shape))]


def _split(mb: Builder, op: Operation, x: Flat) -> Sequence[Flat]:
    axis = int(op.axis.val)
    sizes = [output.shape[axis] for output in op.outputs]
    parts = mb.split(x=_around(mb, x, axis), split_sizes=sizes, axis=1)
    return [_flat(mb, part, output.shape) for part, output in zip(parts, op.outputs, strict=True)]


def _slice(mb: Builder, op: Operation, x: Flat) -> Sequence[Flat]:
    """Constant slices, one axis after the other."""
    for axis, size in enumerate(x.shape):
        begin, end, step, single = _bounds(op, axis, size)
        if (begin, end, step) != (0, size, 1):
            part = mb.slice_by_index(
                x=_around(mb, x, axis), begin=[0, begin, 0], end=[0, end, 0], stride=[1, step, 1],
                begin_mask=[True, False, True], end_mask=[True, False, True],
            )  # fmt: skip
            x = _flat(mb, part, [*x.shape[:axis], part.shape[1], *x.shape[axis + 1 :]])
        del single
    return [Flat(elements=x.elements, shape=tuple(op.outputs[0].shape))]


def _bounds(op: Operation, axis: int, size: int) -> tuple[int, int, int, bool]:
    """Begin, end, step and whether the axis is taken away, of a slice_by_index along one axis."""

    def masked(name: str) -> bool:
        mask = getattr(op, name, None)
        return bool(mask is not None and mask.val is not None and mask.val[axis])

    step = 1 if op.stride is None else int(op.stride.val[axis])
    if step < 1:
        raise _UnknownError
    begin = 0 if masked("begin_mask") else int(op.begin.val[axis])
    begin += size if begin < 0 else 0
    if masked("squeeze_mask"):
        return begin, begin + 1, 1, True
    end = size if masked("end_mask") else int(op.end.val[axis])
    end += size if end < 0 else 0
    return begin, min(end, size), step, False


def _softmax(mb: Builder, op: Operation, x: Flat) -> Sequence[Flat]:
    return [_flat(mb, mb.softmax(x=_around(mb, x, int(op.axis.val)), axis=1), x.shape)]


def _gather(mb: Builder, op: Operation, x: Flat) -> Sequence[Flat]:
    if op.indices.val is None or op.indices.rank > 1:
        raise _UnknownError
    picked = mb.gather(x=_around(mb, x, int(op.axis.val)), indices=op.indices.val, axis=1)
    return [_flat(mb, picked, op.outputs[0].shape)]


def _linear(mb: Builder, op: Operation, x: Flat) -> Sequence[Flat]:
    """A linear layer works along the last axis, on any number of rows."""
    rows = mb.reshape(x=x.elements, shape=[math.prod(x.shape[:-1]), x.shape[-1]])
    return [_flat(mb, mb.linear(x=rows, weight=op.weight, bias=op.bias), op.outputs[0].shape)]


def _layer_norm(mb: Builder, op: Operation, x: Flat) -> Sequence[Flat]:
    """Over the last axis alone, as transformers have it."""
    if [int(axis) % len(x.shape) for axis in op.axes.val] != [len(x.shape) - 1]:
        raise _UnknownError
    rows = mb.reshape(x=x.elements, shape=[math.prod(x.shape[:-1]), x.shape[-1]])
    given = {name: value for name in ("gamma", "beta", "epsilon") if (value := op.inputs.get(name)) is not None}
    return [_flat(mb, mb.layer_norm(x=rows, axes=[1], **given), x.shape)]


def _elementwise(mb: Builder, op: Operation, x: Flat) -> Sequence[Flat]:
    """An operator on each element, its other arguments constants."""
    others = {name: value for name, value in op.inputs.items() if name != "x" and value is not None}
    return [Flat(elements=getattr(mb, op.op_type)(x=x.elements, **others), shape=x.shape)]


_REWRITES: dict[str, Rewrite] = {
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshape),
    "transpose": _transpose,
    **{f"reduce_{name}": _reduce for name in ("max", "min", "sum", "mean", "prod")},
    "split": _split,
    "slice_by_index": _slice,
    "softmax": _softmax,
    "gather": _gather,
    "linear": _linear,
    "layer_norm": _layer_norm,
    **dict.fromkeys(
        ("identity", "cast", "relu", "sigmoid", "tanh", "exp", "sqrt", "rsqrt", "silu", "gelu", "clip", "abs", "erf"),
        _elementwise,
    ),
}
_PAIRS = ("add", "sub", "mul", "real_div", "maximum", "minimum")


class _UnknownError(Exception):
    """An operator is left as it is; coremltools then says that its rank is too high."""


def _pair(mb: Builder, op: Operation, known: dict[Var, Flat]) -> Sequence[Flat]:
    """An operator of two tensors: neighbouring dimensions in which the same one is repeated are one.

    Given:   (2, 3, 4, 5, 6, 7) + (1, 1, 4, 5, 6, 1)
    Result:  (6, 120, 7) + (1, 120, 1)
    """
    shape = tuple(op.outputs[0].shape)
    own = [_padded(_shape_of(var, known), len(shape)) for var in (op.x, op.y)]
    groups: list[list[int]] = []
    kinds: list[tuple[bool, ...]] = []
    for axis, size in enumerate(shape):
        kind = tuple(sizes[axis] != size for sizes in own)  # which side is repeated
        if groups and (size == 1 or kind == kinds[-1]):
            groups[-1].append(axis)
        else:
            groups.append([axis])
            kinds.append(kind)
    if len(groups) > MOST:
        raise _UnknownError
    sides = []
    for var, sizes in zip((op.x, op.y), own, strict=True):
        elements = known[var].elements if var in known else var
        sides.append(mb.reshape(x=elements, shape=[math.prod(sizes[axis] for axis in group) for group in groups]))
    return [_flat(mb, getattr(mb, op.op_type)(x=sides[0], y=sides[1]), shape)]


def _matmul(mb: Builder, op: Operation, known: dict[Var, Flat]) -> Sequence[Flat]:
    """A product of matrices in many equal batches: (…, M, K) by (…, K, N) as (B, M, K) by (B, K, N)."""
    shapes = [_shape_of(var, known) for var in (op.x, op.y)]
    if shapes[0][:-2] != shapes[1][:-2]:
        raise _UnknownError
    sides = [
        mb.reshape(x=known[var].elements if var in known else var, shape=[math.prod(s[:-2]), *s[-2:]])
        for var, s in zip((op.x, op.y), shapes, strict=True)
    ]
    product = mb.matmul(x=sides[0], y=sides[1], transpose_x=op.transpose_x.val, transpose_y=op.transpose_y.val)
    return [_flat(mb, product, op.outputs[0].shape)]


def _shape_of(var: Var, known: dict[Var, Flat]) -> tuple[int, ...]:
    return known[var].shape if var in known else tuple(var.shape)


def _padded(shape: Sequence[int], rank: int) -> tuple[int, ...]:
    return (*[1] * (rank - len(shape)), *shape)


def lower_high_ranks(block: Block) -> None:
    """Rewrite what lies between tensors of at most five dimensions, in place.

    What cannot be rewritten (sizes that the app chooses, other operators) stays, and coremltools refuses it by name.
    """
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - as coremltools itself calls it

    known: dict[Var, Flat] = {}
    done: list[Operation] = []
    for op in list(block.operations):
        for inner in op.blocks:
            lower_high_ranks(inner)
        inputs = [value for value in op.inputs.values() if value is not None and not isinstance(value, list | tuple)]
        is_high = any(output.rank > MOST for output in op.outputs if hasattr(output, "rank"))
        if op.op_type == "const" or not (is_high or any(value in known for value in inputs)):
            continue
        if not all(isinstance(size, Integral) for output in op.outputs for size in output.shape):
            return
        with mb.set_before_op(op), mb.scope(*_scopes(op)):
            try:
                results = _rewritten(mb, op, known)
            except _UnknownError:
                return
            _replace(mb, op, results, known)
        done.append(op)
    for op in reversed(done):
        block.remove_ops([op])


def _scopes(op: Operation) -> list[ScopeInfo]:
    """Where an operator comes from, for those that take its place."""
    from coremltools.converters.mil.mil.scope import ScopeInfo

    return [ScopeInfo(source=source, data=list(data)) for source, data in op.scopes.items() if data]


def _rewritten(mb: Builder, op: Operation, known: dict[Var, Flat]) -> Sequence[Flat]:
    if op.op_type in _PAIRS:
        return _pair(mb, op, known)
    if op.op_type == "matmul":
        return _matmul(mb, op, known)
    if op.op_type not in _REWRITES or op.x.val is not None:
        raise _UnknownError
    x = known[op.x] if op.x in known else _flat(mb, op.x, op.x.shape)
    return _REWRITES[op.op_type](mb, op, x)


def _replace(mb: Builder, op: Operation, results: Sequence[Flat], known: dict[Var, Flat]) -> None:
    """Remember results of many dimensions; give the others to those who use them."""
    for output, result in zip(op.outputs, results, strict=True):
        if output.rank > MOST:
            known[output] = result
            continue
        low = mb.reshape(x=result.elements, shape=list(output.shape)) if output.rank else result.elements
        op.enclosing_block.replace_uses_of_var_after_op(anchor_op=op, old_var=output, new_var=low)


@contextmanager
def high_ranks_lowered() -> Iterator[None]:
    """Within the block, coremltools' own pass for such tensors, which knows one pattern, does what this file does."""
    from coremltools.converters.mil.mil.passes.defs.optimize_tensor_operation import (
        expand_high_rank_reshape_and_transpose as upstream,
    )
    from coremltools.converters.mil.mil.passes.helper import block_context_manager

    before = upstream.apply
    lower = block_context_manager(lower_high_ranks)

    def apply(_: object, program: Program) -> None:
        for function in program.functions.values():
            lower(function)

    upstream.apply = apply
    try:
        yield
    finally:
        upstream.apply = before
