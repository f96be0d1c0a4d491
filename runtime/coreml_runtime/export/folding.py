"""Evaluates at once, while a program is traced, what depends on nothing that is given to the program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from coreml_runtime.ops.context import is_real

_SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)


class Folding(TorchFunctionMode):
    """Functions of real tensors alone are computed, so that the trace holds their results as constants.

    Kernels may then read such tensors as Python numbers, as they do where a program is executed: the sizes of a
    reshape, the end of a loop.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The result of one function of torch."""
        named = dict(kwargs or {})
        leaves = tree_leaves((args, named))
        tensors = [each for each in leaves if isinstance(each, torch.Tensor)]
        if all(is_real(each) for each in tensors) and not any(isinstance(each, _SYMBOLS) for each in leaves):
            with _disable_current_modes():
                return func(*args, **named)
        return func(*args, **named)
