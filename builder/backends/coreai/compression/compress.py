"""The recipe's compression steps on an `.aimodel`, in the child process: one asset after each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from builder.artifacts.stages import SkippedLayer
from builder.backends.coreai.child import call
from builder.errors import ConversionError
from builder.spec.compression import (
    LinearQuantize,
    Palettize,
    ProgramCompression,
    Prune,
    QuantizeActivations,
    WeightCompression,
)

if TYPE_CHECKING:
    import numpy as np

    from builder.backends.coreai.compression.weights import Weight
    from coreml_runtime.forms import Form

_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """What one step did."""

    asset: Path
    changed: tuple[str, ...]
    skipped: tuple[SkippedLayer, ...]


Samples: TypeAlias = "Mapping[str, Sequence[Mapping[str, np.ndarray]]]"
"""By name of a step that calibrates, the inputs of the function."""


def compress(
    asset: Path, folder: Path, steps: Mapping[str, ProgramCompression], samples: Samples | None = None
) -> list[Compressed]:
    """Apply the steps in their order; the asset after each lies in `folder`.

    Raises ConversionError where a step names a weight that does not exist, or changes none.
    """
    results: list[Compressed] = call(
        "compression.compress:run", asset, folder, dict(steps), dict(samples or {}), seconds=_SECONDS
    )
    return results


def run(asset: Path, folder: Path, steps: Mapping[str, ProgramCompression], samples: Samples) -> list[Compressed]:
    """What `compress` does, in the child."""
    from builder.backends.coreai.compression.activations import quantize_activations

    plain, forms = asset, _plain_forms(asset)
    results: list[Compressed] = []
    for number, (name, step) in enumerate(steps.items()):
        if isinstance(step, QuantizeActivations):
            current = results[-1].asset if results else asset
            made = folder / f"plain_{number}.aimodel"
            changed, skipped = quantize_activations(name, step, plain, current, samples[name], made)
            plain = made
        else:
            changed, skipped = _apply(name, step, _weights(plain), forms)
        result = folder / f"step_{number}.aimodel"
        _write(plain, result, forms)
        results.append(Compressed(asset=result, changed=tuple(changed), skipped=tuple(skipped)))
    return results


def _weights(asset: Path) -> list[Weight]:
    """The weights of a program without compressed ones."""
    from builder.backends.coreai import adapter
    from builder.backends.coreai.compression.weights import find_weights

    program = adapter.load_program(asset)
    with adapter.module_of(program).context:
        return find_weights(program)


def _plain_forms(asset: Path) -> dict[str, Form]:
    """By name of each weight, its values."""
    from builder.backends.coreai import adapter
    from builder.backends.coreai.compression.weights import find_weights
    from coreml_runtime.forms import Form

    program = adapter.load_program(asset)
    with adapter.module_of(program).context:
        constants = adapter.constants(program)
        return {
            weight.name: Form(dense=adapter.constant_array(constants[weight.place])) for weight in find_weights(program)
        }


def _methods() -> Mapping[type[WeightCompression], Callable[..., Form | str]]:
    from builder.backends.coreai.compression.palettize import palettize
    from builder.backends.coreai.compression.prune import prune
    from builder.backends.coreai.compression.quantize import quantize

    return {LinearQuantize: quantize, Palettize: palettize, Prune: prune}


def _apply(
    name: str, step: WeightCompression, weights: Sequence[Weight], forms: dict[str, Form]
) -> tuple[list[str], list[SkippedLayer]]:
    """Give the chosen weights their new form; the names of those changed, and the others with the reason."""
    from builder.backends.coreml.compression.selection import select

    method = _methods()[type(step)]
    chosen = select(name, step, weights, what="weight", types=attrgetter("types"), names=attrgetter("names"))
    changed, skipped = [], []
    for weight in chosen:
        if weight.size <= step.weight_threshold:
            found: Form | str = f"{weight.size} elements, and weight_threshold is {step.weight_threshold}"
        else:
            found = method(forms[weight.name], step, weight.channels)
        if isinstance(found, str):
            skipped.append(SkippedLayer(step=name, name=weight.name, reason=found))
        else:
            forms[weight.name] = found
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


def _write(asset: Path, destination: Path, forms: Mapping[str, Form]) -> None:
    """The program with every weight in its form."""
    from builder.backends.coreai import adapter
    from builder.backends.coreai.compression.emit import emit
    from builder.backends.coreai.compression.weights import find_weights

    program = adapter.load_program(asset)
    with adapter.module_of(program).context:
        constants = adapter.constants(program)
        for weight in find_weights(program):
            if forms[weight.name].is_compressed:
                emit(constants[weight.place], forms[weight.name], weight.name)
    program.save_asset(destination)
