"""A user's own rewrite: modules of a type become what a factory makes of them."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from builder.errors import ConversionError
from builder.spec.substitutions import ReplaceModules
from builder.substitutions.rewrite import rewrite
from builder.user_code import call, import_object


def rewrite_replace(
    module: torch.nn.Module, given: ReplaceModules, *, key: str
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Given modules of exactly `type`. Result: `replacement(old)`, or `replacement()` where it takes no argument.

    Raises ConversionError when the replacement fails or makes no module.
    """
    wanted: Any = None if given.type is None else import_object(given.type, key=f"{key}.type")
    if wanted is not None and not (isinstance(wanted, type) and issubclass(wanted, torch.nn.Module)):
        raise ConversionError(f"{given.type} is not a type of torch.nn.Module", key=f"{key}.type")
    replacement = import_object(given.replacement, key=f"{key}.replacement")
    takes_old = _takes_an_argument(replacement)

    def replace(old: torch.nn.Module) -> torch.nn.Module:
        arguments = (old,) if takes_old else ()
        new = call(replacement, given.replacement, *arguments, key=f"{key}.replacement", error=ConversionError)
        if not isinstance(new, torch.nn.Module):
            raise ConversionError(
                f"{given.replacement} returned a {type(new).__name__}, not a torch.nn.Module", key=f"{key}.replacement"
            )
        return new

    return rewrite(module, lambda m: wanted is None or type(m) is wanted, given.modules, replace)


def _takes_an_argument(function: Any) -> bool:
    """Whether a replacement is made from the old module; module types of torch itself (`torch.nn:ReLU`) are not."""
    parameters = inspect.signature(function).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]
    return len(required) == 1
