"""Distances of pairs, which torch computes in one of two ways by the number of rows: captured in the exact one.

Above 25 rows `torch.cdist` makes one matrix product of them, which is quicker and rounds more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_BY_ROWS = "use_mm_for_euclid_dist_if_necessary"
_EXACT = "donot_use_mm_for_euclid_dist"


@contextmanager
def exact_distances() -> Iterator[None]:
    """Within the block, `torch.cdist` asks for no size of its inputs, unless its caller chose a way."""
    original: Any = torch.cdist

    def cdist(x1: torch.Tensor, x2: torch.Tensor, p: float = 2.0, compute_mode: str = _BY_ROWS) -> Any:
        return original(x1, x2, p, _EXACT if compute_mode == _BY_ROWS else compute_mode)

    modules: tuple[Any, ...] = (torch, torch.functional)
    for module in modules:
        module.cdist = cdist
    try:
        yield
    finally:
        for module in modules:
            module.cdist = original
