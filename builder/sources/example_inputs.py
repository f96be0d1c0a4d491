"""One sample as the bare model takes it: pictures normalised, arrays as they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from builder.artifacts import ExampleInputs, Preprocessing
from builder.errors import SourceError
from builder.normalization import resolve_normalization
from builder.sources.seeded import initialise_seeded
from builder.spec import BuildSpec
from builder.spec.inputs import ImageInput


def model_inputs(spec: BuildSpec, examples: ExampleInputs, preprocessing: Preprocessing | None) -> list[torch.Tensor]:
    """The first sample, in the order of the recipe's inputs; one is enough for statistics of every channel."""
    inputs = []
    for name, given in spec.input.items():
        tensor = examples.samples[0].tensors[name]
        if isinstance(given, ImageInput):
            normalization = resolve_normalization(name, given, preprocessing)
            shape = (1, -1, 1, 1)
            tensor = tensor * torch.tensor(normalization.scale).view(shape)
            tensor = tensor + torch.tensor(normalization.bias).view(shape)
        inputs.append(tensor)
    return inputs


def fill_untrained(module: torch.nn.Module, inputs: Sequence[torch.Tensor], seed: int, spec: BuildSpec) -> None:
    """Give `module` seeded weights; raises SourceError when it does not take the recipe's inputs."""
    try:
        initialise_seeded(module, inputs, seed)
    except Exception as error:  # whatever the model raises for inputs that it was not made for
        shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in zip(spec.input, inputs, strict=True))
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SourceError(
            f"the model does not run on {shapes}: {said}",
            hint="compare shape, dtype and number of inputs with what the model's forward takes",
            key="input",
        ) from error
