"""The load stage: the example inputs, and the model that the recipe names."""

from __future__ import annotations

from builder.artifacts.stages import ExampleInputs, LoadedModel
from builder.model.sources import load_source
from builder.progress import Progress
from builder.spec import BuildSpec


def load(spec: BuildSpec, examples: ExampleInputs, progress: Progress) -> LoadedModel:
    """Load the model on the CPU, in eval mode; raises SourceError."""
    return load_source(spec, examples, progress)


def describe_load(loaded: LoadedModel) -> str:
    """One line: what was loaded, how large, from which weights."""
    parameters = sum(p.numel() for p in loaded.module.parameters())
    name = loaded.origin.get("name") or loaded.origin.get("factory") or loaded.origin.get("file") or "model"
    if loaded.seeded:
        weights = "UNTRAINED seeded weights"
    elif loaded.origin.get("weights"):
        weights = str(loaded.origin["weights"])
    else:
        weights = f"weights {loaded.digest.removeprefix('sha256:')[:12]}"
    return f"{name}, {parameters / 1e6:.2f} M parameters, {weights}"
