"""Apple's Core ML framework, through coremltools; it needs a Mac, so the tests do not run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from builder.backends.coreml.importing import import_coremltools

if TYPE_CHECKING:
    from coremltools.models import MLModel


def open_model(path: Path, *, function: str = "") -> MLModel:
    """Load an artifact, or one of its functions, for prediction by Apple's framework."""
    return import_coremltools().models.MLModel(str(path), function_name=function or None)


def open_program(model: MLModel) -> MLModel:
    """Load the first model of a detector's pipeline, whose outputs the pipeline itself does not give."""
    first = model.get_spec().pipeline.models[0]
    return import_coremltools().models.MLModel(first, weights_dir=model.weights_dir)
