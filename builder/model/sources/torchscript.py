"""A TorchScript archive, as `torch.jit.save` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builder.artifacts import LoadedModel
from builder.errors import SourceError
from builder.model.sources.archives import RefusedArchiveError, first_line
from builder.model.sources.checkpoint import check_digest
from builder.model.sources.download import file_digest
from builder.model.sources.programs import TORCHSCRIPT, check_count, check_kind
from builder.model.sources.script_archive import load_script
from builder.spec import BuildSpec
from builder.spec.source import TorchScriptSource


def load_torchscript(source: TorchScriptSource, spec: BuildSpec) -> LoadedModel:
    """Load the archive; raises SourceError when it is something else, damaged, or takes other inputs."""
    path = Path(source.file)
    digest = file_digest(path)
    check_digest(path, digest, source.sha256)
    check_kind(path, TORCHSCRIPT)
    module = open_script(path)
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


def open_script(path: Path) -> Any:
    """The module of an archive; raises SourceError where it is damaged or would do more than compute."""
    try:
        return load_script(path)
    except RefusedArchiveError as error:
        hint = "a model computes: leave out what reads, writes or prints, and save it again with torch.jit.save"
        raise SourceError(f"{path} is not loaded: {error}", hint=hint, key="source.file") from error
    except (RuntimeError, ValueError, OSError) as error:
        raise SourceError(
            f"{path} cannot be loaded: {first_line(error)}",
            hint="operators of a package that is not imported here (such as torchvision's nms) cannot be loaded",
            key="source.file",
        ) from error
