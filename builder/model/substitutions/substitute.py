"""Applies a recipe's substitutions in order, and measures what each alone changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from builder.artifacts.stages import SubstitutionEffect
from builder.errors import ConfigurationError, ConversionError, about
from builder.model.substitutions.fast_path import attention_in_operators
from builder.model.substitutions.rewrite import selected
from builder.model.substitutions.shapes import Run
from builder.model.substitutions.table import REWRITES
from builder.model.substitutions.user import replace, rewrite_model
from builder.spec.substitutions import ReplaceModules, RewriteModel, ShippedRewrite, Substitution
from builder.util.measures import MULTIPLE, compare, where_finite
from builder.util.process_state import said_by
from builder.util.suggest import did_you_mean

EXACT = 1e-4
"""By how much of an output's largest value an exact rewrite may change it: fp32 rounding over a deep network."""
EXACT_ROUNDINGS = 16
"""The same in roundings, for outputs of lower precision."""

Outputs = tuple[torch.Tensor, ...]
Others = Callable[[torch.nn.Module], Sequence[Outputs]]
"""What a module answers for the same examples where its rounding falls otherwise."""


def substitute(
    module: torch.nn.Module, substitutions: Mapping[str, Substitution], run: Run, others: Others | None = None
) -> tuple[torch.nn.Module, tuple[SubstitutionEffect, ...]]:
    """Apply the rewrites in order and measure what each alone changes on the outputs; `module` stays as it is.

    Raises ConfigurationError when a rewrite matches nothing and is not optional, ConversionError when it fails or
    changes the outputs by more than its limit: the recipe's `effect`, and for an exact one without, 1e-4 of the
    output's largest value. Where that is missed, `others` says what the model itself is not sure of.
    """
    effects = []
    with attention_in_operators():
        before = run(module) if substitutions else ()
        for name, given in substitutions.items():
            key = f"substitutions.{name}"
            with about(key):
                new, replaced, exact = _apply(module, given, run, key=key)
                _require_matches(module, name, given, replaced)
            if not replaced:
                effects.append(_no_effect(name, given, exact=exact))
                continue
            after = _run_again(new, run, name)
            effects.append(effect := _measured(name, given, before, after, replaced, exact=exact))
            if exact and given.effect is None:
                _require_exact(effect, before, after, partial(others, module) if others else tuple)
            module, before = new, after
    return module, tuple(effects)


def _apply(
    module: torch.nn.Module, given: Substitution, run: Run, *, key: str
) -> tuple[torch.nn.Module, tuple[str, ...], bool]:
    match given:
        case ReplaceModules():
            return (*replace(module, given, key=key), given.exact)
        case RewriteModel():
            return (*rewrite_model(module, given, key=key), given.exact)
        case ShippedRewrite():
            entry = REWRITES[given.kind]
            return (*entry.apply(module, given, run, key=key), entry.exact)


def _run_again(new: torch.nn.Module, run: Run, name: str) -> Outputs:
    try:
        return run(new)
    except Exception as error:
        raise ConversionError(
            f"after substitution {name} the model no longer runs: {said_by(error)}",
            code="B0407",
            key=f"substitutions.{name}",
        ) from error


def _no_effect(name: str, given: Substitution, *, exact: bool) -> SubstitutionEffect:
    return SubstitutionEffect(name=name, kind=given.kind, exact=exact, replaced=(), max_abs=0.0, snr_db=None)


def _measured(
    name: str, given: Substitution, before: Outputs, after: Outputs, replaced: tuple[str, ...], *, exact: bool
) -> SubstitutionEffect:
    key = f"substitutions.{name}"
    shapes = [[tuple(t.shape) for t in outputs] for outputs in (before, after)]
    if shapes[0] != shapes[1]:
        raise ConversionError(
            f"substitution {name} changes the outputs from {shapes[0]} to {shapes[1]}", code="B0408", key=key
        )
    differences = [compare(*where_finite(b, a)) for b, a in zip(before, after, strict=True)]
    if any(math.isnan(d.max_abs) for d in differences):
        raise ConversionError(f"substitution {name} makes outputs infinite or NaN that were not", code="B0408", key=key)
    effect = SubstitutionEffect(
        name=name,
        kind=given.kind,
        exact=exact,
        replaced=replaced,
        max_abs=max((d.max_abs for d in differences), default=0.0),
        snr_db=min((d.snr_db for d in differences), default=math.inf),
    )
    if given.effect is not None and not given.effect.holds(effect.max_abs):
        raise ConversionError(
            f"substitution {name} changes an output by {effect.max_abs:.3g}, and its limit is {_bounds(given)}",
            code="B0408",
            key=f"{key}.effect",
        )
    return effect


def _require_exact(
    effect: SubstitutionEffect, before: Outputs, after: Outputs, others: Callable[[], Sequence[Outputs]]
) -> None:
    """Raise ConversionError where an exact rewrite changes an output by more than rounding, the model's own too."""
    for number, output in enumerate(before):
        difference = compare(*where_finite(output, after[number]))
        if difference.relative_error <= _exact_limit(output):
            continue
        unsure = [compare(*where_finite(output, other[number])) for other in others()]
        own = max((each.relative_error for each in unsure if not math.isnan(each.relative_error)), default=0.0)
        if difference.relative_error - MULTIPLE * own > _exact_limit(output):
            raise ConversionError(
                f"substitution {effect.name} is exact, and changes an output by {difference.max_abs:.3g}, which is "
                f"{difference.relative_error:.2g} of its largest value; the limit is {_exact_limit(output):g}",
                code="B0408",
                hint="give it a limit of its own (`effect: {max: …}`) if this much is fine",
                key=f"substitutions.{effect.name}",
            )


def _exact_limit(output: torch.Tensor) -> float:
    roundings = EXACT_ROUNDINGS * torch.finfo(output.dtype).eps if output.is_floating_point() else 0.0
    return max(EXACT, roundings)


def _bounds(given: Substitution) -> str:
    assert given.effect is not None
    bounds = {"min": given.effect.min, "max": given.effect.max}
    return ", ".join(f"{name} {value:g}" for name, value in bounds.items() if value is not None)


def _require_matches(module: torch.nn.Module, name: str, given: Substitution, replaced: Sequence[str]) -> None:
    """Raise ConfigurationError when nothing was replaced, or nothing by one of the patterns, unless that is fine."""
    if given.optional:
        return
    patterns = () if isinstance(given, RewriteModel) else given.modules or ()
    paths = [path for path, _ in module.named_modules(remove_duplicate=False)]
    if not replaced:
        types = ", ".join(sorted({type(m).__name__ for m in module.modules()}))
        raise ConfigurationError(
            f"substitution {name} matches nothing in the model, whose modules are of types {types}",
            code="B0264",
            hint=_why_nothing(module, patterns, paths),
        )
    for pattern in patterns:
        if not any(selected(path, [pattern]) for path in replaced):
            raise ConfigurationError(
                f"pattern {pattern} of substitution {name} matches nothing that it replaces",
                code="B0264",
                hint=did_you_mean(pattern, paths) or "remove it, or write `optional: true`",
                key=f"substitutions.{name}.modules",
            )


def _why_nothing(module: torch.nn.Module, patterns: Sequence[str], paths: Sequence[str]) -> str:
    unknown = [pattern for pattern in patterns if not any(selected(path, [pattern]) for path in paths)]
    nearest = next((hint for pattern in unknown if (hint := did_you_mean(pattern, paths))), None)
    if nearest:
        return nearest
    if isinstance(module, torch.jit.ScriptModule | torch.fx.GraphModule):
        return "a captured program has no modules left to replace: substitute in the model that it was captured from"
    return (
        "functions such as torch.nn.functional.relu6 are not modules and stay; "
        "write `optional: true` when matching nothing is fine"
    )
