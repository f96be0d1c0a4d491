"""The example inputs of a build: made once, traced and compared by every stage."""

from __future__ import annotations

import hashlib

from builder.artifacts import ExampleInputs, Sample
from builder.data.samples import draw_samples
from builder.spec import BuildSpec
from builder.spec.data import NoiseData, PhotographsData
from builder.spec.inputs import ImageInput

EXAMPLE_COUNT = 4


def make_examples(spec: BuildSpec) -> ExampleInputs:
    """Draw photographs for image inputs and noise for tensors, whatever data the checks ask for.

    So the examples, and with them traces and seeded weights, depend on the inputs and the seed alone.
    """
    samples = draw_samples(default_data(spec), spec.input, EXAMPLE_COUNT, spec.seed)
    return ExampleInputs(samples=samples, digest=_digest(samples))


def default_data(spec: BuildSpec) -> PhotographsData | NoiseData:
    """Photographs where the model takes a picture, noise where it does not."""
    images = any(isinstance(given, ImageInput) for given in spec.input.values())
    return PhotographsData(kind="photographs") if images else NoiseData(kind="noise")


def _digest(samples: tuple[Sample, ...]) -> str:
    """`sha256:` over names, dtypes, shapes and values of all tensors, in order."""
    digest = hashlib.sha256()
    for sample in samples:
        for name, tensor in sample.tensors.items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"
