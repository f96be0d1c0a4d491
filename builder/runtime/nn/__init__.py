"""Neural networks of `.mlmodel` files: one file a layer family; `layers()` merges their tables."""

from __future__ import annotations

import pkgutil
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from builder.runtime.mapping import Buffer, release

if TYPE_CHECKING:
    from builder.runtime.nn.layer import Binder
    from builder.runtime.nn.network import NeuralNetwork


@lru_cache(maxsize=1)
def layers() -> dict[str, Binder]:
    """Every binder by the layer's field name in NeuralNetwork.proto; a name that occurs twice is a ValueError."""
    merged: dict[str, Binder] = {}
    for module in pkgutil.iter_modules(__path__):
        for name, binder in getattr(import_module(f"{__name__}.{module.name}"), "LAYERS", {}).items():
            if name in merged:
                raise ValueError(f"layer {name} is defined twice")
            merged[name] = binder
    return merged


def compile_network(specification: Any, content: Buffer = b"") -> NeuralNetwork:
    """The network of a Model message, weights read and layers bound; UnsupportedError names all missing layers.

    `content` is the file that holds the weights which were cut out of the message.
    """
    from builder.runtime.nn.network import read_network

    network = read_network(specification, content)
    release(content)
    return network
