"""What every NeuralNetwork layer family shares: the layer as read, and the types of a binder and a kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from coreml_runtime.binding import Known
from coreml_runtime.mapping import Buffer
from coreml_runtime.nn.weights import read_later, read_weights
from coreml_runtime.ops.context import is_real
from coreml_runtime.ops.open_sizes import whole
from coreml_runtime.prepack import Packer

if TYPE_CHECKING:
    from google.protobuf.message import Message

Kernel = Callable[..., Tensor | tuple[Tensor, ...]]
"""Takes the layer's inputs in file order, as float32 tensors, and returns its outputs in file order."""


def _nothing() -> None:
    """What packed weights leave to be given back: they were copied from the file before."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The file that a network's large weights were cut out of, and what packs them in its first prediction."""

    content: Buffer = b""
    packer: Packer = field(default_factory=lambda: Packer(release=_nothing))


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One NeuralNetworkLayer message; `parameters` is the member of its `layer` oneof that is set.

    Its weights may lie in `source`.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Message
    source: Source = field(default_factory=Source)

    def weights(self, message: Message, shape: Sequence[int], *, axis: int = 0) -> Tensor:
        """The values of a WeightParams message (see read_weights)."""
        return read_weights(message, shape, axis=axis, content=self.source.content)

    def later(self, message: Message, shape: Sequence[int]) -> Known:
        """The same for a large weight: quantised values are checked now and turned into numbers when they are used."""
        make = read_later(message, shape, content=self.source.content)
        return Known(make=make, outline=torch.empty(tuple(shape), device="meta"))


Binder = Callable[[Layer], Kernel]
"""Reads a layer's parameters and weights once, at load time, and returns the function that runs it."""


def fold(x: Tensor, trailing: int) -> Tensor:
    """Fold all dimensions before the last `trailing` into one: they all count as batch (NeuralNetwork.proto)."""
    return x.reshape(-1, *x.shape[x.dim() - trailing :]) if x.dim() != trailing + 1 else x


def unfold(y: Tensor, like: Tensor, trailing: int) -> Tensor:
    """Undo `fold`: give `y` the leading dimensions of `like`."""
    return y.reshape(*like.shape[: like.dim() - trailing], *y.shape[1:]) if like.dim() != trailing + 1 else y


def integers(x: Tensor) -> tuple[int, ...]:
    """The values of a shape or index tensor, which NeuralNetwork keeps as floats."""
    values = x.flatten()
    return tuple(map(whole, (values if is_real(values) else values.to(torch.int64)).tolist()))
