"""Evaluates at once, while a program is traced, what depends on nothing that is given to the program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

from coreml_runtime.ops.context import is_real

_DRAWS = (torch.rand, torch.randn, torch.multinomial)
"""What draws anew in every run, where it has no generator of its own."""
_SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)


class Folding(TorchFunctionMode):
    """Functions of real tensors alone are computed, so that the trace holds their results as constants.

    Kernels may then read such tensors as Python numbers, as they do where a program is executed: the sizes of a
    reshape, the end of a loop. `met` gets the constants that meet a traced value, in order; where `given` is not
    None, the function takes the next one of it instead, since a graph within a graph must not hold constants.
    """

    def __init__(self, met: list[torch.Tensor] | None = None, given: Iterable[torch.Tensor] | None = None) -> None:
        super().__init__()
        self._met = met
        self._given: Iterator[torch.Tensor] | None = None if given is None else iter(given)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> Any:
        """The result of one function of torch."""
        named = dict(kwargs or {})
        leaves = tree_leaves((args, named))
        tensors = [each for each in leaves if isinstance(each, torch.Tensor)]
        draws = func in _DRAWS and named.get("generator") is None
        if not draws and all(is_real(each) for each in tensors) and not any(isinstance(x, _SYMBOLS) for x in leaves):
            with _disable_current_modes():
                return func(*args, **named)
        if self._met is not None or self._given is not None:
            args, named = tree_map_only(torch.Tensor, self._outside, (args, named))
        return func(*args, **named)

    def _outside(self, value: torch.Tensor) -> torch.Tensor:
        if not is_real(value):
            return value
        if self._met is not None:
            self._met.append(value)
        return value if self._given is None else next(self._given)
