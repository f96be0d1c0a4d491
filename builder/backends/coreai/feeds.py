"""A sample as a Core AI artifact takes it."""

from __future__ import annotations

from typing import Any

import numpy as np

from builder.artifacts.stages import Sample
from builder.backends.coreai.declared import declared_types
from builder.spec import BuildSpec
from builder.spec.inputs import ImageInput


def feeds(sample: Sample, spec: BuildSpec) -> dict[str, Any]:
    """By input: levels of a picture (1, C, H, W) in its declared type and the model's order, or the array as given."""
    return {
        name: sample.tensors[name].numpy().astype(declared_types(given))
        if isinstance(given, ImageInput)
        else np.asarray(sample.given[name])
        for name, given in spec.artifact_inputs.items()
    }
