"""The example inputs of a build: made once, traced and compared by every stage."""

from __future__ import annotations

from builder.artifacts.stages import ExampleInputs
from builder.data.collection import samples_digest
from builder.data.drawing import draw_sample
from builder.data.samples import draw_samples
from builder.data.sizes import sizes_between
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
    data, shapes = default_data(spec), shapes_to_try(spec.artifact_inputs)
    samples = draw_samples(data, spec.artifact_inputs, EXAMPLE_COUNT, spec.seed, masks=False)[:]
    count = min(len(shapes), MOST_SHAPES)
    varied = draw_samples(data, spec.artifact_inputs, count, spec.seed, vary=True, masks=False)[1:]
    between = tuple(
        draw_sample(data, spec.artifact_inputs, spec.seed, EXAMPLE_COUNT + index, sizes, masks=False)
        for index, sizes in enumerate(sizes_between(spec.artifact_inputs))
    )
    digest = samples_digest((*samples, *varied))
    return ExampleInputs(samples=samples, other_shapes=varied, between=between, digest=digest)
