"""Multiply-accumulates of the operators that have any, from shapes.

Counted are convolutions, matrix products, recurrent cells and attention, as torch.utils.flop_counter and the tools for
PyTorch do: all else is a few operations a value, and shows in the bytes that are moved. Padding counts as values do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

Shape = tuple[int, ...]


class UnknownShapeError(Exception):
    """A shape that the number depends on is not known."""


@dataclass(frozen=True, kw_only=True)
class Operands:
    """The shapes of an operator's arguments and first output, and the constants among them."""

    shapes: Mapping[str, Sequence[Shape | None]]
    """By argument, of each value."""
    constants: Mapping[str, Any]
    """By argument: numbers and texts that are known."""
    output: Shape | None

    def shape(self, name: str) -> Shape:
        """Of an argument that is one value. Raises UnknownShapeError."""
        found = self.shapes.get(name, ())
        if len(found) != 1 or found[0] is None:
            raise UnknownShapeError(name)
        return found[0]

    def has(self, name: str) -> bool:
        """Whether the argument is given."""
        return name in self.shapes

    def result(self) -> Shape:
        """Of the first output. Raises UnknownShapeError."""
        if self.output is None:
            raise UnknownShapeError("output")
        return self.output


def conv(x: Operands) -> int:
    """Output (N, C_out, *D) of a weight (C_out, C_in / groups, *K): each value takes C_in / groups * K products."""
    return prod(x.result()) * prod(x.shape("weight")[1:])


def conv_transpose(x: Operands) -> int:
    """Each value of x (N, C_in, *D) takes C_out / groups * K products with a weight (C_in, C_out / groups, *K).

    What the padding cuts off afterwards is counted, as in torch's counter.
    """
    return prod(x.shape("x")) * prod(x.shape("weight")[1:])


def linear(x: Operands) -> int:
    """Rows of x (*, D_in) times a weight (D_out, D_in)."""
    return prod(x.shape("x")[:-1]) * prod(x.shape("weight"))


def matmul(x: Operands) -> int:
    """Output (*, M, N) of x (*, M, K) @ y (*, K, N): K products each."""
    given = x.shape("x")
    transposed = bool(x.constants.get("transpose_x", False)) and len(given) > 1
    return prod(x.result()) * given[-2 if transposed else -1]


def einsum(x: Operands) -> int:
    """One product for each combination of the indices of two operands, without those that are summed before.

    An index of one operand only that the result lacks is summed first; more operands are multiplied in their order.
    """
    equation = str(x.constants["equation"]).replace(" ", "")
    terms, _, result = equation.partition("->")
    names = terms.split(",")
    sizes: dict[str, int] = {}
    labels: list[list[str]] = []
    for name, shape in zip(names, x.shapes["values"], strict=True):
        if shape is None:
            raise UnknownShapeError(name)
        labels.append(_spread(name, len(shape)))
        for label, size in zip(labels[-1], shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    wanted = _result_labels(result, labels, explicit="->" in equation)
    total, left = 0, labels[0]
    for index, right in enumerate(labels[1:], start=2):
        later = wanted | {label for other in labels[index:] for label in other}
        multiplied = {label for label in {*left, *right} if label in later or (label in left and label in right)}
        total += prod(sizes[label] for label in multiplied)
        left = [label for label in dict.fromkeys([*left, *right]) if label in later]
    return total


def _spread(term: str, rank: int) -> list[str]:
    """The labels of a term, those of an ellipsis counted from its right end: `...ij` of rank 4 is `.1 .0 i j`."""
    before, dots, after = term.partition("...")
    count = rank - len(before) - len(after)
    return [*before, *(f".{place}" for place in range(count - 1, -1, -1) if dots), *after]


def _result_labels(result: str, labels: Sequence[Sequence[str]], *, explicit: bool) -> set[str]:
    """The labels of the result; of an equation without an arrow those that occur once."""
    every = [label for term in labels for label in term]
    dotted = {label for label in every if label.startswith(".")}
    if not explicit:
        return {label for label in every if every.count(label) == 1} | dotted
    return set(result.replace("...", "")) | (dotted if "..." in result else set())


def attention(x: Operands) -> int:
    """Q K^T and its product with V: query (*, L, E), key (*, S, E), value (*, S, EV)."""
    query, key, value = x.shape("query"), x.shape("key"), x.shape("value")
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


_RECURRENT = ("weight_ih", "weight_hh", "weight_ih_back", "weight_hh_back")


def recurrent(x: Operands) -> int:
    """Each of the S * B steps of x (S, B, I) takes the products of all weights: G * H * (I + H) in each direction."""
    steps, batch = x.shape("x")[:2]
    return steps * batch * sum(prod(x.shape(name)) for name in _RECURRENT if x.has(name))


PRODUCTS: Mapping[str, Callable[[Operands], int]] = {
    **dict.fromkeys(("conv", "conv_quantized", "conv2d", "conv3d"), conv),
    **dict.fromkeys(("conv_transpose", "conv_transpose2d", "conv_transpose3d"), conv_transpose),
    **dict.fromkeys(("matmul", "batch_matmul"), matmul),
    **dict.fromkeys(("lstm", "gru", "rnn"), recurrent),
    "linear": linear,
    "einsum": einsum,
    "scaled_dot_product_attention": attention,
}
"""By operator of MIL or of Core AI's dialect. Any other that the runtime knows has none."""


def macs(kind: str, operands: Operands) -> int | None:
    """Multiply-accumulates of an operator; None where a shape that decides is not known."""
    formula = PRODUCTS.get(kind)
    if formula is None:
        return 0
    try:
        return formula(operands)
    except UnknownShapeError:
        return None
