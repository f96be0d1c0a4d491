"""Which layers of a model a step is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from builder.artifacts.stages import SkippedLayer
from builder.errors import ConfigurationError, ConversionError
from builder.spec.module_compression import ModuleCompression
from builder.util.suggest import did_you_mean

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WEIGHTED = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED, nn.Embedding)
"""Layers that have one weight; what of these a method takes is its own."""

WhyNot = Callable[[nn.Module], str | None]
"""Why a method leaves a layer alone; None where it does not."""


@dataclass(frozen=True, kw_only=True)
class Layers:
    """The layers of a model by their path: those that a step changes, and those that it leaves with the reason."""

    chosen: dict[str, nn.Module]
    skipped: tuple[SkippedLayer, ...]
    others: tuple[str, ...]
    """All layers that stay as they are."""


def choose_layers(root: nn.Module, name: str, step: ModuleCompression, why_not: WhyNot) -> Layers:
    """The layers that `step` chooses among those with a weight.

    Raises ConfigurationError for a pattern that matches none, ConversionError where no layer is left.
    """
    layers: dict[str, nn.Module] = {
        path: module for path, module in root.named_modules() if isinstance(module, WEIGHTED)
    }
    for setting in ("modules", "except_modules"):
        for pattern in getattr(step, setting) or ():
            if not any(fnmatchcase(path, pattern) for path in layers):
                raise ConfigurationError(
                    f"compression {name}: no layer of the model belongs to {pattern}",
                    code="B0264",
                    hint=did_you_mean(pattern, layers),
                    key=f"compression.{name}.{setting}",
                )
    wanted = {path: module for path, module in layers.items() if _is_wanted(step, path)}
    reasons = {path: _too_small(step, module) or why_not(module) for path, module in wanted.items()}
    chosen = {path: module for path, module in wanted.items() if reasons[path] is None}
    skipped = tuple(SkippedLayer(step=name, name=path, reason=reason) for path, reason in reasons.items() if reason)
    if not chosen:
        message = (
            f"{skipped[0].reason} ({skipped[0].name})" if skipped else "the model has no layer that it could be for"
        )
        raise ConversionError(f"compression {name} changed nothing: {message}", code="B0409", key=f"compression.{name}")
    return Layers(chosen=chosen, skipped=skipped, others=tuple(path for path in layers if path not in chosen))


def _is_wanted(step: ModuleCompression, path: str) -> bool:
    included = step.modules is None or any(fnmatchcase(path, pattern) for pattern in step.modules)
    return included and not any(fnmatchcase(path, pattern) for pattern in step.except_modules or ())


def _too_small(step: ModuleCompression, module: nn.Module) -> str | None:
    size = module.get_parameter("weight").numel()
    return (
        f"{size} elements, and weight_threshold is {step.weight_threshold}" if size <= step.weight_threshold else None
    )
