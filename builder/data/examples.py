"""The example inputs of a build: made once, traced and compared by every stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from builder.artifacts import ExampleInputs, Sample
from builder.data.collection import samples_digest
from builder.data.fitting import in_layout
from builder.data.noise import draw_array
from builder.data.photographs import draw_photograph
from builder.data.samples import draw_samples, levels
from builder.data.sizes import sizes_between
from builder.data.streams import stream
from builder.spec import BuildSpec
from builder.spec.data import NoiseData, PhotographsData
from builder.spec.inputs import ImageInput, shapes_to_try

EXAMPLE_COUNT = 4

MOST_SHAPES = 8
"""How many shapes of flexible inputs the examples have; a recipe may enumerate 128."""


def make_examples(spec: BuildSpec) -> ExampleInputs:
    """Draw photographs for image inputs and noise for tensors, whatever data the checks ask for.

    So the examples, and with them traces and seeded weights, depend on the inputs and the seed alone.
    """
    data, shapes = default_data(spec), shapes_to_try(spec.artifact_inputs)
    samples = draw_samples(data, spec.artifact_inputs, EXAMPLE_COUNT, spec.seed)[:]
    varied = draw_samples(data, spec.artifact_inputs, min(len(shapes), MOST_SHAPES), spec.seed, vary=True)[1:]
    between = tuple(_at(shapes, spec, index) for index, shapes in enumerate(sizes_between(spec.artifact_inputs)))
    digest = samples_digest((*samples, *varied))
    return ExampleInputs(samples=samples, other_shapes=varied, between=between, digest=digest)


def _at(shapes: Mapping[str, tuple[int, ...]], spec: BuildSpec, index: int) -> Sample:
    """A sample of these shapes."""
    given: dict[str, Any] = {}
    tensors = {}
    for name, declared in spec.artifact_inputs.items():
        generator = stream(spec.seed, index, f"between {name}")
        if isinstance(declared, ImageInput):
            height, width = shapes[name][2:]
            given[name] = in_layout(draw_photograph(index, (width, height), generator), declared.color_layout)
            tensors[name] = levels(given[name], declared.color_layout)
        else:
            given[name] = draw_array(declared, shapes[name], generator)
            tensors[name] = torch.from_numpy(given[name].astype(np.int32 if declared.dtype == "int32" else np.float32))
    return Sample(given=given, tensors=tensors, label=None)


def default_data(spec: BuildSpec) -> PhotographsData | NoiseData:
    """Photographs where the model takes a picture, noise where it does not."""
    images = any(isinstance(given, ImageInput) for given in spec.artifact_inputs.values())
    return PhotographsData(kind="photographs") if images else NoiseData(kind="noise")
