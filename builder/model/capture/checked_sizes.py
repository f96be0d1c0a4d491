"""Checks of sizes that torch makes on its own arguments, as in `max_unpool2d`, while a trace records sizes.

A size is a tensor then, and so is what it is compared with, which `torch._check_with` of torch 2.13 refuses as not a
bool. Delete this when `torch.jit.trace` takes `nn.MaxUnpool2d` by itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.jit._trace import TracerWarning


@contextmanager
def sizes_checked() -> Iterator[None]:
    """Within the block, torch's checks take a recorded comparison by its value, which the trace does not keep."""
    checks: Any = torch
    original = checks._check_with

    def check_with(error: type[BaseException], condition: object, message: object) -> None:
        if isinstance(condition, torch.Tensor):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TracerWarning)  # a check decides nothing but whether to raise
                condition = bool(condition)
        original(error, condition, message)

    checks._check_with = check_with
    try:
        yield
    finally:
        checks._check_with = original
