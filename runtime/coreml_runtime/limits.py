"""Refuses declared sizes that no machine of this size could hold, before anything is allocated."""

from __future__ import annotations

import math
import os
from functools import lru_cache

from coreml_runtime.errors import ModelError
from coreml_runtime.ops.context import TensorType
from coreml_runtime.program import StateType, ValueType

_LARGEST_SIZE = 2**31 - 1
_BYTES_AT_LEAST = 1


def check_size(declared: ValueType, where: str) -> None:
    """A declared tensor whose known sizes exceed the machine's memory is a ModelError."""
    tensor = declared.wrapped if isinstance(declared, StateType) else declared
    if not isinstance(tensor, TensorType):
        return
    known = [size for size in tensor.shape if size is not None]
    if any(size > _LARGEST_SIZE for size in known) or math.prod(known) * _BYTES_AT_LEAST > memory():
        raise ModelError(f"{where}: declares {tensor.dtype} of shape {tensor.shape}, more than this machine can hold")


@lru_cache(maxsize=1)
def memory() -> int:
    """Physical memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
