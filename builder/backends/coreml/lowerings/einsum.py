"""Einstein sums in every form: ellipses, diagonals, traces, and any number of operands."""

from __future__ import annotations

import math
from collections.abc import Sequence

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Unused, Var
from builder.backends.coreml.lowerings.variables import fixed_size, promoted

_BROADCAST = "0123456789"
"""Letters of the axes that an ellipsis stands for, counted from the last."""


def einsum(mb: Builder, equation: str, operands: Sequence[Var], path: Unused = None) -> Var:
    """The operands multiplied two by two, from the left; what neither the rest nor the result has is summed at once."""
    del path  # the order that torch would take
    operands = promoted(*operands)
    inputs, output = _letters(equation, [operand.rank for operand in operands])
    terms = [
        _own(mb, x, letters, _others(inputs, i) | set(output))
        for i, (x, letters) in enumerate(zip(operands, inputs, strict=True))
    ]
    (x, letters), *rest = terms
    for index, (y, other) in enumerate(rest):
        needed = set(output).union(*(later for _, later in rest[index + 1 :]))
        x, letters = _product(mb, x, letters, y, other, needed)
    order = [letters.index(letter) for letter in output]
    return mb.identity(x=x) if order == list(range(len(order))) else mb.transpose(x=x, perm=order)


def _others(inputs: Sequence[str], index: int) -> set[str]:
    return set().union(*(letters for i, letters in enumerate(inputs) if i != index))


def _letters(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """One letter for each axis of each operand, and those of the result; without `->` it has all that occur once."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    given = left.split(",")
    more = [
        rank - len(part.replace("...", "")) if "..." in part else 0 for part, rank in zip(given, ranks, strict=True)
    ]
    whole = [part.replace("...", _BROADCAST[:count][::-1]) for part, count in zip(given, more, strict=True)]
    dots = _BROADCAST[: max(more)][::-1]
    if arrow:
        return whole, right.replace("...", dots)
    together = "".join(whole)
    return whole, dots + "".join(sorted(c for c in set(together) - set(_BROADCAST) if together.count(c) == 1))


def _own(mb: Builder, x: Var, letters: str, needed: set[str]) -> tuple[Var, str]:
    """Without what the operand alone decides: diagonals of letters that it has twice, sums over what nobody needs."""
    while (twice := next((c for c in letters if letters.count(c) > 1), None)) is not None:
        first = letters.index(twice)
        x, letters = _diagonal(mb, x, letters, first, letters.index(twice, first + 1))
    alone = [axis for axis, letter in enumerate(letters) if letter not in needed]
    if alone:
        x = mb.reduce_sum(x=x, axes=alone, keep_dims=False)
    return x, "".join(c for c in letters if c in needed)


def _diagonal(mb: Builder, x: Var, letters: str, first: int, second: int) -> tuple[Var, str]:
    """The entries at which two axes of one size have the same index, along the first of them: the rest are zero."""
    import numpy as np

    shape = [1] * x.rank
    shape[first] = shape[second] = fixed_size(x, first, "a diagonal in einsum")
    ones = np.eye(shape[first]).reshape(shape) != 0
    sizes = [fixed_size(x, axis, "a diagonal in einsum") for axis in range(x.rank)]
    kept = mb.select(cond=np.broadcast_to(ones, sizes).copy(), a=x, b=promoted(x, np.zeros(sizes, np.float32))[1])
    return mb.reduce_sum(x=kept, axes=[second], keep_dims=False), letters[:second] + letters[second + 1 :]


def _product(mb: Builder, x: Var, mine: str, y: Var, other: str, needed: set[str]) -> tuple[Var, str]:
    """One matrix product: axes of both that stay are batches, axes of both that are summed are inner ones."""
    summed = [c for c in mine if c in other and c not in needed]
    batch = [c for c in mine if c in other and c in needed]
    x_free, y_free = [c for c in mine if c not in other], [c for c in other if c not in mine]
    if not summed or any(_size(x, mine, c) != _size(y, other, c) for c in [*batch, *summed]):
        return _broadcast_product(mb, x, mine, y, other, summed)
    left = _as_matrices(mb, x, mine, [batch, x_free, summed])
    right = _as_matrices(mb, y, other, [batch, summed, y_free])
    product = mb.matmul(x=left, y=right)
    sizes = [*(_size(x, mine, c) for c in [*batch, *x_free]), *(_size(y, other, c) for c in y_free)]
    letters = "".join([*batch, *x_free, *y_free])
    return (mb.reshape(x=product, shape=sizes) if sizes else mb.squeeze(x=product, axes=[0, 1, 2])), letters


def _broadcast_product(mb: Builder, x: Var, mine: str, y: Var, other: str, summed: Sequence[str]) -> tuple[Var, str]:
    """Elements of both where one may have a size of 1, and the sum of the product."""
    letters = mine + "".join(c for c in other if c not in mine)
    if missing := len(letters) - len(mine):
        x = mb.expand_dims(x=x, axes=list(range(len(mine), len(mine) + missing)))
    order = sorted(range(len(other)), key=lambda axis: letters.index(other[axis]))
    y = y if order == list(range(len(order))) else mb.transpose(x=y, perm=order)
    if absent := [axis for axis, letter in enumerate(letters) if letter not in other]:
        y = mb.expand_dims(x=y, axes=absent)
    product = mb.mul(x=x, y=y)
    axes = [letters.index(c) for c in summed]
    if axes:
        product = mb.reduce_sum(x=product, axes=axes, keep_dims=False)
    return product, "".join(c for c in letters if c not in summed)


def _size(x: Var, letters: str, letter: str) -> int:
    return fixed_size(x, letters.index(letter), "this einsum")


def _as_matrices(mb: Builder, x: Var, letters: str, groups: Sequence[Sequence[str]]) -> Var:
    """(batches, rows, columns), each the product of a group's axes."""
    order = [letters.index(c) for group in groups for c in group]
    x = x if order == list(range(len(order))) else mb.transpose(x=x, perm=order)
    ordered = "".join(c for group in groups for c in group)
    return mb.reshape(x=x, shape=[math.prod(_size(x, ordered, c) for c in group) for group in groups])


def _is_unusual(equation: str, operands: Sequence[Var]) -> bool:
    """Whether coremltools has no form for it: it takes two operands whose axes are all of the result, or of both."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    if "." in equation or not arrow or len(operands) != 2 or any(len(set(part)) < len(part) for part in parts):
        return True
    first, second = (set(part) for part in parts)
    return bool((first ^ second) - set(right)) or any(len(part) > 4 for part in parts)


EINSUM = (
    Lowering(
        operator="einsum",
        lower=einsum,
        upstream_gap="ellipses, diagonals, traces, and more or less than two operands",
        applies=_is_unusual,
    ),
)
