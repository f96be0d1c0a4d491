"""Every way in which a PyTorch model reaches the builder: one file a kind, and the table that finds it."""

from __future__ import annotations

from builder.artifacts import ExampleInputs, LoadedModel
from builder.errors import SourceError
from builder.model.sources.checkpoint import load_checkpoint
from builder.model.sources.coreml import load_coreml
from builder.model.sources.exported_program import load_exported_program
from builder.model.sources.huggingface import load_huggingface
from builder.model.sources.onnx import load_onnx
from builder.model.sources.python import load_python
from builder.model.sources.timm import load_timm
from builder.model.sources.torchscript import load_torchscript
from builder.model.sources.torchvision import load_torchvision
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.source import (
    CheckpointSource,
    CoreMLSource,
    ExportedProgramSource,
    HuggingFaceSource,
    OnnxSource,
    PythonSource,
    TimmSource,
    TorchScriptSource,
    TorchvisionSource,
)


def load_source(spec: BuildSpec, examples: ExampleInputs, progress: Progress) -> LoadedModel:
    """Load the model that the recipe names, on the CPU, in eval mode.

    Raises SourceError when it cannot be had.
    """
    try:
        match spec.source:
            case TorchvisionSource() as source:
                return load_torchvision(source, spec, examples, progress)
            case CheckpointSource() as source:
                return load_checkpoint(source, progress)
            case TorchScriptSource() as source:
                return load_torchscript(source, spec)
            case ExportedProgramSource() as source:
                return load_exported_program(source, spec)
            case TimmSource() as source:
                return load_timm(source, spec, examples, progress)
            case HuggingFaceSource() as source:
                return load_huggingface(source, spec, examples, progress)
            case OnnxSource() as source:
                return load_onnx(source, spec)
            case PythonSource() as source:
                return load_python(source)
            case CoreMLSource() as source:
                return load_coreml(source, spec)
    except SourceError as error:
        error.key = error.key or "source"
        raise
