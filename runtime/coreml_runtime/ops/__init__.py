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
