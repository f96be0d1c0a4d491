"""A user's own rewrites: modules become what a factory makes of them, or the whole model what a function returns."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import torch

from builder.errors import ConversionError
from builder.model.substitutions.rewrite import copy_module, rewrite
from builder.spec.substitutions import ReplaceModules, RewriteModel
from builder.util.user_code import call, import_object

if TYPE_CHECKING:
    from collections.abc import Callable

    pass

_PLAIN = (int, float, str, bool, tuple, type(None))


def replace(module: torch.nn.Module, given: ReplaceModules, *, key: str) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Replace modules of exactly `type`, or at the paths of `modules`, or both, by what the user's factory makes.

    Given: the module `old`.

    Result: `replacement(old)`, or `replacement()` where it takes no argument.
    """
    wanted = None if given.type is None else import_module_type(given.type, key=f"{key}.type")
    replacement = import_object(given.replacement, key=f"{key}.replacement")
    if not callable(replacement):
        raise ConversionError(f"{given.replacement} is not a function or type", code="B0407", key=f"{key}.replacement")
    takes_old = _takes_an_argument(replacement)

    def make(old: torch.nn.Module) -> torch.nn.Module:
        arguments = (old,) if takes_old else ()
        new = call(
            replacement, given.replacement, *arguments, key=f"{key}.replacement", error=ConversionError, code="B0416"
        )
        return _as_module(new, given.replacement, key=f"{key}.replacement")

    return rewrite(module, lambda m: wanted is None or is_of_type(m, wanted), given.modules, make)


def rewrite_model(module: torch.nn.Module, given: RewriteModel, *, key: str) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Hand a copy of the whole model to the user's function.

    Given: the model.

    Result: `function(model)`; what counts as replaced are the paths whose module is new, of another type, or has
    other settings, parameters or buffers than before.
    """
    function = import_object(given.function, key=f"{key}.function")
    if not callable(function):
        raise ConversionError(f"{given.function} is not a function", code="B0407", key=f"{key}.function")
    copied = copy_module(module)
    new = call(function, given.function, copied, key=f"{key}.function", error=ConversionError, code="B0416")
    new = _as_module(new, given.function, key=f"{key}.function").train(module.training)
    return new, _changed(module, new)


def import_module_type(path: str, *, key: str) -> type[torch.nn.Module]:
    """Return the module type that `package.module:Name` names; raises ConversionError for anything else."""
    found: object = import_object(path, key=key)
    if not (isinstance(found, type) and issubclass(found, torch.nn.Module)):
        raise ConversionError(f"{path} is not a type of torch.nn.Module", code="B0407", key=key)
    return found


def is_of_type(module: torch.nn.Module, wanted: type[torch.nn.Module]) -> bool:
    """Whether a module is of exactly this type, also when it has parametrizations (which change its type)."""
    return torch.nn.utils.parametrize.type_before_parametrizations(module) is wanted


def _as_module(made: object, what: str, *, key: str) -> torch.nn.Module:
    if not isinstance(made, torch.nn.Module):
        raise ConversionError(f"{what} returned a {type(made).__name__}, not a torch.nn.Module", code="B0407", key=key)
    return made


def _changed(before: torch.nn.Module, after: torch.nn.Module) -> tuple[str, ...]:
    """Return the paths whose module differs; below one that is new, gone or of another type nothing is looked at."""
    old = dict(before.named_modules(remove_duplicate=False))
    new = dict(after.named_modules(remove_duplicate=False))
    changed: list[str] = []
    others: list[str] = []
    for path in [*new, *(p for p in old if p not in new)]:
        if any(other == "" or path.startswith(f"{other}.") for other in others):
            continue
        if path not in old or path not in new or type(old[path]) is not type(new[path]):
            others.append(path)
            changed.append(path)
        elif _differs(old[path], new[path]):
            changed.append(path)
    return tuple(changed)


def _differs(old: torch.nn.Module, new: torch.nn.Module) -> bool:
    if ("forward" in vars(old)) != ("forward" in vars(new)):
        return True
    settings = [{k: v for k, v in vars(m).items() if isinstance(v, _PLAIN)} for m in (old, new)]
    if settings[0] != settings[1] or old.extra_repr() != new.extra_repr():
        return True
    return _own_state(old).keys() != _own_state(new).keys() or any(
        a.dtype != b.dtype or not torch.equal(a, b)
        for a, b in zip(_own_state(old).values(), _own_state(new).values(), strict=True)
    )


def _own_state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    own = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
    return dict(sorted(own.items()))


def _takes_an_argument(function: Callable[..., object]) -> bool:
    """Whether a replacement is made from the old module; module types of torch itself (`torch.nn:ReLU`) are not."""
    parameters = inspect.signature(function).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]
    return len(required) == 1
