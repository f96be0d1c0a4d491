"""A context for calling kernels directly in tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from coreml_runtime.dtypes import holder
from coreml_runtime.ops.context import Context, TensorType


def _no_block(index: int, *arguments: Any) -> tuple[Any, ...]:
    raise AssertionError("no block was given")


def make_context(
    opset: str = "ios18",
    *,
    output: TensorType | None = None,
    seed: int = 0,
    run_block: Callable[..., tuple[Any, ...]] = _no_block,
) -> Context:
    """A context of half precision with one declared output."""
    return Context(
        opset=opset,
        output_types=(output,),
        held=holder["half"],
        generator=torch.Generator().manual_seed(seed),
        run_block=run_block,
        states={},
    )
