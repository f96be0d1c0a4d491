"""The example inputs of a build: made once, traced and compared by every stage."""

from __future__ import annotations

from builder.artifacts import ExampleInputs
from builder.data.collection import samples_digest
from builder.data.samples import draw_samples
from builder.spec import BuildSpec
from builder.spec.coverage import default_data
from builder.spec.inputs import shapes_to_try

EXAMPLE_COUNT = 4

MOST_SHAPES = 8
"""How many shapes of flexible inputs the examples have; a recipe may enumerate 128."""


def make_examples(spec: BuildSpec) -> ExampleInputs:
    """Draw photographs for image inputs and noise for tensors, whatever data the checks ask for.

    So the examples, and with them traces and seeded weights, depend on the inputs and the seed alone.
    """
    data, shapes = default_data(spec), shapes_to_try(spec.input)
    samples = draw_samples(data, spec.input, EXAMPLE_COUNT, spec.seed, masks=False)[:]
    varied = draw_samples(data, spec.input, min(len(shapes), MOST_SHAPES), spec.seed, vary=True, masks=False)[1:]
    return ExampleInputs(samples=samples, other_shapes=varied, digest=samples_digest((*samples, *varied)))
