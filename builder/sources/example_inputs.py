"""One sample as the bare model takes it: pictures normalised, arrays as they are."""

from __future__ import annotations

import torch

from builder.artifacts import ExampleInputs, Preprocessing
from builder.normalization import resolve_normalization
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
