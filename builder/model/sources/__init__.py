"""Every way in which a PyTorch model reaches the builder: one file a kind (`builder.spec.source_kinds` names them)."""

from __future__ import annotations

from builder.artifacts.stages import ExampleInputs, LoadedModel
from builder.errors import about
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.source_kinds import kind_of
from builder.util.lazy import call


def load_source(spec: BuildSpec, examples: ExampleInputs, progress: Progress) -> LoadedModel:
    """Load the model that the recipe names, on the CPU, in eval mode.

    Raises SourceError when it cannot be had.
    """
    source = spec.source
    arguments = {"source": source, "spec": spec, "examples": examples, "progress": progress}
    with about("source"):
        loaded: LoadedModel = call(kind_of(source).load, arguments)
    return loaded
