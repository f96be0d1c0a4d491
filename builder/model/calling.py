"""How a model takes its inputs: by name where every input is named as a parameter of forward, else by position."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def call_model(module: torch.nn.Module, names: Sequence[str], inputs: Sequence[torch.Tensor]) -> Any:
    """Return what `module` returns for `inputs`, which the recipe names `names`.

    Where every name is a parameter of forward they are passed as keyword arguments, so their order in the recipe does
    not matter; otherwise (`image` for a parameter `x`) all are passed by position.
    """
    if set(names) <= set(parameter_names(module)):
        return module(**dict(zip(names, inputs, strict=True)))
    return module(*inputs)


def parameter_names(module: torch.nn.Module) -> tuple[str, ...]:
    """The parameters of forward that can be passed by name; none where they cannot be told."""
    if isinstance(module, torch.jit.ScriptModule):
        forward: Any = module.forward
        return tuple(argument.name for argument in forward.schema.arguments[1:])
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(p.name for p in parameters if p.kind in _NAMED)
