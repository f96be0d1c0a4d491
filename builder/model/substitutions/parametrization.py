"""Weights that are computed from others, computed once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

from builder.errors import ConversionError
from builder.model.substitutions.rewrite import Matches, copy_module, selected


def parametrization_removal(
    root: torch.nn.Module, matches: Matches, patterns: Sequence[str] | None
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Compute weights once that the model computes in every forward.

    These are weight norm, spectral norm, pruning masks, and all that torch.nn.utils.parametrize makes.

    Given: `linear(x, g * v / |v|)`.

    Result: `linear(x, w)` with `w = g * v / |v|`, a parameter.
    """
    new = copy_module(root)
    places = [
        (path, module)
        for path, module in new.named_modules(remove_duplicate=False)
        if _is_computed(module) and matches(module) and selected(path, patterns)
    ]
    for path, module in places:
        if _is_computed(module):  # a shared module comes once for each of its places
            try:
                _bake(module)
            except (RuntimeError, ValueError, KeyError) as error:
                raise ConversionError(
                    f"the weights of {path or 'the root'} cannot be fixed: {error}", code="B0407"
                ) from error
    baked = {id(module) for _, module in places}
    paths = tuple(path for path, module in new.named_modules(remove_duplicate=False) if id(module) in baked)
    return new, paths


def _is_computed(module: torch.nn.Module) -> bool:
    return parametrize.is_parametrized(module) or bool(_weight_hooks(module))


def _weight_hooks(module: torch.nn.Module) -> list[object]:
    kinds = (WeightNorm, SpectralNorm, prune.BasePruningMethod)
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, kinds)]


def _bake(module: torch.nn.Module) -> None:
    training = module.training
    module.eval()  # spectral norm would change its estimate by what it computes in training
    if parametrize.is_parametrized(module):
        _give_its_own_type(module)
        parametrizations = module.parametrizations
        assert isinstance(parametrizations, torch.nn.ModuleDict)
        for name in list(parametrizations):
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
            if name in module._buffers:  # what is left of a frozen parameter
                value = module._buffers.pop(name)
                assert value is not None
                module.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))
    for hook in _weight_hooks(module):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]  # torch
    module.train(training)


def _give_its_own_type(module: torch.nn.Module) -> None:
    """Part a copy's type from the original's, of which torch would delete the computed weight.

    torch makes a type for each parametrized module, and a deep copy shares it.
    """
    shared = type(module)
    attributes = {name: value for name, value in vars(shared).items() if name not in ("__dict__", "__weakref__")}
    module.__class__ = type(shared.__name__, shared.__bases__, attributes)
