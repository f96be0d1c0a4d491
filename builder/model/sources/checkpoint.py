"""A file written by `torch.save` or safetensors: a state dict for a factory, or a whole pickled module."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from builder.artifacts.stages import LoadedModel
from builder.errors import SourceError
from builder.model.sources.download import check_digest, file_digest
from builder.model.sources.python import make_module
from builder.model.sources.state import LeftOut, load_state, module_digest
from builder.model.sources.weights import read_checkpoint, state_dict_in
from builder.model.torchvision_import import declare_missing_operators
from builder.progress import Progress
from builder.spec.source import CheckpointSource

if TYPE_CHECKING:
    from builder.artifacts.origin import SourceOrigin


def load_checkpoint(source: CheckpointSource, progress: Progress) -> LoadedModel:
    """Load the file; raises SourceError when it is damaged, of another kind than the recipe says, or does not fit."""
    path = Path(source.file)
    file_sha256 = file_digest(path)
    check_digest(path, file_sha256, source.sha256)
    if source.trust_pickle:
        declare_missing_operators()  # a pickled module of torchvision imports it
    content = read_checkpoint(path, trust_pickle=source.trust_pickle)
    left = LeftOut()
    if source.factory is None:
        module = _whole_module(content, path)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # for what the file does not have, such as buffers that are not saved
            module = make_module(source.factory, source.arguments)
        state = state_dict_in(
            content, source.file, state_dict_key=source.state_dict_key, strip_prefix=source.strip_prefix
        )
        left = load_state(module, state, file=source.file, key="source.file", strict=source.strict)
        _warn(left, source, progress)
    origin: SourceOrigin = {
        "kind": "checkpoint",
        "file": path.name,
        "file_sha256": file_sha256,
        "factory": source.factory,
    }
    if left.unknown:
        origin["unknown"] = list(left.unknown)
    if left.missing:
        origin["missing"] = list(left.missing)
    return LoadedModel(module=module.eval(), digest=module_digest(module), origin=origin)


def _warn(left: LeftOut, source: CheckpointSource, progress: Progress) -> None:
    if left.unknown:
        names = ", ".join(left.unknown)
        progress.warn(f"{source.file}: left out, since the model has no such names: {names}", code="B0002")
    if left.missing:
        progress.warn(
            f"{source.file} has no values for {', '.join(left.missing)}: they stay as {source.factory} makes them, "
            "untrained unless it loads them itself",
            code="B0002",
        )


def _whole_module(content: object, path: Path) -> torch.nn.Module:
    if isinstance(content, torch.nn.Module):
        return content
    raise SourceError(
        f"{path} holds a {type(content).__name__}, not a whole module",
        code="B0303",
        hint="for a state dict, name the `factory` that makes the module: package.module:function",
        key="source.file",
    )
