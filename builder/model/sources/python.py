"""A model made by a user's factory."""

from __future__ import annotations

import torch

from builder.artifacts.stages import LoadedModel
from builder.errors import SourceError
from builder.model.sources.state import module_digest
from builder.model.torchvision_import import declare_missing_operators, import_torchvision
from builder.spec.base import Arguments
from builder.spec.source import PythonSource
from builder.util.user_code import call, import_object


def load_python(source: PythonSource) -> LoadedModel:
    """Call the factory after seeding torch; raises SourceError when it fails or returns no module."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed)
        module = make_module(source.factory, source.arguments)
    digest = module_digest(module)
    return LoadedModel(
        module=module.eval(),
        digest=digest,
        origin={"kind": "python", "factory": source.factory, "seed": source.seed, "weights_digest": digest},
    )


def make_module(factory: str, arguments: Arguments) -> torch.nn.Module:
    """Return the module that `factory(**arguments)` makes; raises SourceError when it makes none."""
    prepare_torchvision(factory)
    function = import_object(factory, key="source.factory")
    module: object = call(function, factory, key="source.factory", error=SourceError, code="B0313", arguments=arguments)
    if not isinstance(module, torch.nn.Module):
        raise SourceError(
            f"{factory} returned a {type(module).__name__}, not a torch.nn.Module", code="B0314", key="source.factory"
        )
    return module


def prepare_torchvision(name: str) -> None:
    """Let user code import torchvision where its compiled operators do not load; import it now where `name` is its."""
    if name.partition(".")[0] == "torchvision":
        import_torchvision()
    else:
        declare_missing_operators()
