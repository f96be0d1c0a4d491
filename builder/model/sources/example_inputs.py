"""One sample as the bare model takes it: pictures normalised, arrays as they are, constants in their places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from builder.artifacts.stages import ExampleInputs, Preprocessing
from builder.errors import SourceError
from builder.model.calling import Arguments
from builder.model.normalization import resolve_normalization
from builder.model.sources.seeded import initialise_seeded
from builder.spec import BuildSpec
from builder.spec.inputs import ImageInput


def model_inputs(
    spec: BuildSpec, examples: ExampleInputs, preprocessing: Preprocessing | None, number: int = 0
) -> list[Any]:
    """One sample, the first unless another is asked for, in the order of the recipe's inputs."""
    inputs = []
    for name, given in spec.artifact_inputs.items():
        tensor = examples.samples[number].tensors[name]
        if isinstance(given, ImageInput):
            normalization = resolve_normalization(name, given, preprocessing)
            shape = (1, -1, 1, 1)
            tensor = tensor * torch.tensor(normalization.scale).view(shape)
            tensor = tensor + torch.tensor(normalization.bias).view(shape)
        inputs.append(tensor)
    return Arguments(spec.input).of(inputs)


def further_inputs(spec: BuildSpec, examples: ExampleInputs, preprocessing: Preprocessing | None) -> list[list[Any]]:
    """All samples but the first, as `model_inputs` gives that."""
    return [model_inputs(spec, examples, preprocessing, number) for number in range(1, len(examples.samples))]


def fill_untrained(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    seed: int,
    spec: BuildSpec,
    others: Sequence[Sequence[torch.Tensor]] = (),
) -> None:
    """Give `module` seeded weights; raises SourceError when it does not take the recipe's inputs."""
    try:
        initialise_seeded(module, inputs, seed, others)
    except Exception as error:  # whatever the model raises for inputs that it was not made for
        shapes = ", ".join(
            f"{name} {tuple(x.shape) if isinstance(x, torch.Tensor) else x}"
            for name, x in zip(spec.input, inputs, strict=True)
        )
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SourceError(
            f"the model does not run on {shapes}: {message}",
            code="B0335",
            hint="compare shape, dtype and number of inputs with what the model's forward takes",
            key="input",
        ) from error
