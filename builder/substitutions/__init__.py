"""Named rewrites of the module tree: one file a rewrite, and the function that applies the recipe's in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from builder.artifacts import SubstitutionEffect
from builder.errors import ConversionError
from builder.measures import compare
from builder.nearest import did_you_mean
from builder.spec.substitutions import Relu6ToRelu, ReplaceModules, Substitution
from builder.substitutions.relu6_to_relu import rewrite_relu6_to_relu
from builder.substitutions.replace import rewrite_replace

Run = Callable[[torch.nn.Module], tuple[torch.Tensor, ...]]
"""Runs a module on all examples and returns its outputs, flattened."""


def substitute(
    module: torch.nn.Module, substitutions: Mapping[str, Substitution], run: Run
) -> tuple[torch.nn.Module, tuple[SubstitutionEffect, ...]]:
    """Apply the rewrites in order and measure what each alone changes on the outputs; `module` stays as it is.

    Raises ConversionError when a rewrite matches nothing and is not optional, fails, or changes the outputs by more
    than its limit.
    """
    effects = []
    before = run(module) if substitutions else ()
    for name, given in substitutions.items():
        new, replaced, exact = _apply(module, given, key=f"substitutions.{name}")
        if not replaced:
            if not given.optional:
                raise _nothing_matched(module, name, given)
            effects.append(
                SubstitutionEffect(name=name, kind=given.kind, exact=exact, replaced=(), max_abs=0.0, snr_db=None)
            )
            continue
        try:
            after = run(new)
        except Exception as error:
            raise ConversionError(
                f"after substitution {name} the model no longer runs: {error}", key=f"substitutions.{name}"
            ) from error
        measured = [compare(b, a) for b, a in zip(before, after, strict=True)]
        effect = SubstitutionEffect(
            name=name,
            kind=given.kind,
            exact=exact,
            replaced=replaced,
            max_abs=max(m.max_abs for m in measured),
            snr_db=min(m.snr_db for m in measured),
        )
        if given.effect is not None and not given.effect.holds(effect.max_abs):
            raise ConversionError(
                f"substitution {name} changes an output by {effect.max_abs:.3g}, and its limit is {_bounds(given)}",
                key=f"substitutions.{name}.effect",
            )
        effects.append(effect)
        module, before = new, after
    return module, tuple(effects)


def _apply(module: torch.nn.Module, given: Substitution, *, key: str) -> tuple[torch.nn.Module, tuple[str, ...], bool]:
    match given:
        case ReplaceModules():
            return (*rewrite_replace(module, given, key=key), False)
        case Relu6ToRelu():
            return (*rewrite_relu6_to_relu(module, given), False)


def _bounds(given: Substitution) -> str:
    assert given.effect is not None
    return f"max {given.effect.max:g}" if given.effect.max is not None else f"min {given.effect.min:g}"


def _nothing_matched(module: torch.nn.Module, name: str, given: Substitution) -> ConversionError:
    paths = [path for path, _ in module.named_modules(remove_duplicate=False)]
    hint = did_you_mean(given.modules[0], paths) if given.modules else None
    types = sorted({type(m).__name__ for m in module.modules()})
    return ConversionError(
        f"substitution {name} matches nothing in the model, whose modules are of types {', '.join(types)}",
        hint=hint or "write `optional: true` when matching nothing is fine",
        key=f"substitutions.{name}",
    )
