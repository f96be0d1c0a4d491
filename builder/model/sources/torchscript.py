"""A TorchScript archive, as `torch.jit.save` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from builder.artifacts import LoadedModel
from builder.errors import SourceError
from builder.model.sources.checkpoint import check_digest
from builder.model.sources.download import file_digest
from builder.model.sources.programs import TORCHSCRIPT, check_count, check_kind
from builder.spec import BuildSpec
from builder.spec.source import TorchScriptSource


def load_torchscript(source: TorchScriptSource, spec: BuildSpec) -> LoadedModel:
    """Load the archive; raises SourceError when it is something else, damaged, or takes other inputs.

    It is an archive that can run only what TorchScript can express, so nothing has to be trusted.
    """
    path = Path(source.file)
    digest = file_digest(path)
    check_digest(path, digest, source.sha256)
    check_kind(path, TORCHSCRIPT)
    try:
        module: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]  # torch
    except (RuntimeError, ValueError, OSError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise SourceError(
            f"{path} cannot be loaded: {said[0]}",
            hint="operators of a package that is not imported here (such as torchvision's nms) cannot be loaded",
            key="source.file",
        ) from error
    if not hasattr(module, "forward"):
        raise SourceError(
            f"{path} has no forward method",
            hint="a compiled torch.nn.LSTM or GRU has several under other names: compile a module that calls it",
            key="source.file",
        )
    arguments = module.forward.schema.arguments[1:]
    required = sum(not argument.has_default_value() for argument in arguments)
    check_count(path, tuple(a.name for a in arguments), tuple(spec.input), required=required)
    return LoadedModel(
        module=module.eval(),
        digest=f"sha256:{digest}",
        origin={"kind": "torchscript", "file": path.name, "file_sha256": digest},
    )
