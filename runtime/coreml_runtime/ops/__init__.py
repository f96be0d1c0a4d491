"""The operators of MIL: one file a family; `operators()` merges their tables."""

from __future__ import annotations

import pkgutil
from functools import lru_cache
from importlib import import_module

from coreml_runtime.ops.table import Kernel, merge


@lru_cache(maxsize=1)
def operators() -> dict[str, Kernel]:
    """Every kernel by MIL name. Each module of this package that has a table `OPS` is a family."""
    modules = (import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return merge(*(module.OPS for module in modules if hasattr(module, "OPS")))


_OF_TORCH_ALONE = (
    "activation", "conv", "elementwise_binary", "elementwise_unary", "gather", "image_resizing", "linear",
    "normalization", "pool", "reduction", "tensor_operation", "tensor_transformation", "transformers",
)  # fmt: skip


@lru_cache(maxsize=1)
def replayed() -> frozenset[str]:
    """The operators that `recorded` may record: what they do to values is done by torch, and seen by it.

    A kernel that reads a value by `item()` is among them, since a recording ends there; one that reads an array of
    numpy or a list is not.
    """
    return frozenset().union(*(import_module(f"{__name__}.{family}").OPS for family in _OF_TORCH_ALONE))
