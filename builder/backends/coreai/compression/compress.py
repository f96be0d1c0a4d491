"""The recipe's compression steps on an `.aimodel`, in the child process: one asset after each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from builder.artifacts.stages import SkippedLayer
from builder.backends.coreai.child import call
from builder.errors import ConversionError
from builder.spec.compression import LinearQuantize, Palettize, Prune, WeightCompression

_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """What one step did."""

    asset: Path
    changed: tuple[str, ...]
    skipped: tuple[SkippedLayer, ...]


def compress(asset: Path, folder: Path, steps: Mapping[str, WeightCompression]) -> list[Compressed]:
    """Apply the steps in their order; the asset after each lies in `folder`.

    Raises ConversionError where a step names a weight that does not exist, or changes none.
    """
    results: list[Compressed] = call("compression.compress:run", asset, folder, dict(steps), seconds=_SECONDS)
    return results


def run(asset: Path, folder: Path, steps: Mapping[str, WeightCompression]) -> list[Compressed]:
    """What `compress` does, in the child."""
    from builder.backends.coreai import adapter
    from builder.backends.coreai.compression.weights import find_weights
    from coreml_runtime.forms import Form

    program = adapter.load_program(asset)
    with adapter.module_of(program).context:
        weights = find_weights(program)
        constants = adapter.constants(program)
        forms = {weight.place: Form(dense=adapter.constant_array(constants[weight.place])) for weight in weights}
    results = []
    for number, (name, step) in enumerate(steps.items()):
        changed, skipped = _apply(name, step, weights, forms)
        made = folder / f"step_{number}.aimodel"
        _write(asset, made, weights, forms)
        results.append(Compressed(asset=made, changed=tuple(changed), skipped=tuple(skipped)))
    return results


def _methods() -> Mapping[type[Any], Callable[..., Any]]:
    from builder.backends.coreai.compression.palettize import palettize
    from builder.backends.coreai.compression.prune import prune
    from builder.backends.coreai.compression.quantize import quantize

    return {LinearQuantize: quantize, Palettize: palettize, Prune: prune}


def _apply(
    name: str, step: WeightCompression, weights: Sequence[Any], forms: dict[int, Any]
) -> tuple[list[str], list[SkippedLayer]]:
    """Give the chosen weights their new form; the names of those changed, and the others with the reason."""
    from builder.backends.coreml.compression.selection import select

    method = _methods()[type(step)]
    chosen = select(name, step, weights, what="weight", types=attrgetter("types"), names=attrgetter("names"))
    changed, skipped = [], []
    for weight in chosen:
        if weight.size <= step.weight_threshold:
            found: Any = f"{weight.size} elements, and weight_threshold is {step.weight_threshold}"
        else:
            found = method(forms[weight.place], step, weight.channels)
        if isinstance(found, str):
            skipped.append(SkippedLayer(step=name, name=weight.name, reason=found))
        else:
            forms[weight.place] = found
            changed.append(weight.name)
    if not changed:
        raise _nothing(name, step, skipped, [w.name for w in chosen if w.size > step.weight_threshold])
    return changed, skipped


def _nothing(
    name: str, step: WeightCompression, skipped: Sequence[SkippedLayer], large: Sequence[str]
) -> ConversionError:
    """Why a step left every weight as it was; `large` are those above its threshold."""
    reasons, hint = {layer.name: layer.reason for layer in skipped}, None
    if large:
        why = f"{reasons[large[0]]} ({large[0]})"
    elif skipped:
        why = f"only weights of more than {step.weight_threshold} elements are compressed"
        hint = f"`compression.{name}.weight_threshold` says from how many on"
    else:
        why = "the model has none that it could be for, or they are compressed already"
    return ConversionError(
        f"compression {name} changed no weight: {why}", code="B0409", key=f"compression.{name}", hint=hint
    )


def _write(asset: Path, destination: Path, weights: Sequence[Any], forms: Mapping[int, Any]) -> None:
    """The program with every weight in its form."""
    from builder.backends.coreai import adapter
    from builder.backends.coreai.compression.emit import emit

    program = adapter.load_program(asset)
    with adapter.module_of(program).context:
        constants = adapter.constants(program)
        for weight in weights:
            if forms[weight.place].is_compressed:
                emit(constants[weight.place], forms[weight.place], weight.name)
    program.save_asset(destination)
