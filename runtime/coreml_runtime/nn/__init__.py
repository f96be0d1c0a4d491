"""Neural networks of `.mlmodel` files: one file a layer family; `layers()` merges their tables."""

from __future__ import annotations

import pkgutil
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coreml_runtime.nn.layer import Binder


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
