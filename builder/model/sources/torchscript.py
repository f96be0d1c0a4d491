"""A TorchScript archive, as `torch.jit.save` writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.artifacts.stages import LoadedModel
from builder.errors import SourceError
from builder.model.calling import Arguments
from builder.model.sources.archives import RefusedArchiveError, first_line
from builder.model.sources.download import check_digest, file_digest
from builder.model.sources.programs import TORCHSCRIPT, check_count, check_kind
from builder.model.sources.script_archive import load_script
from builder.spec import BuildSpec
from builder.spec.inputs import ConstantInput
from builder.spec.source import TorchScriptSource

if TYPE_CHECKING:
    import torch
    from torch.jit import ScriptModule


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
            code="B0318",
            hint="a compiled torch.nn.LSTM or GRU has several under other names: compile a module that calls it",
            key="source.file",
        )
    arguments = module.forward.schema.arguments[1:]
    required = sum(not argument.has_default_value() for argument in arguments)
    called = Arguments(spec.input).names
    check_count(path, tuple(a.name for a in arguments), called, required=required)
    _refuse_state(path, module)
    _check_numbers(path, arguments, called, spec)
    return LoadedModel(
        # as every build does: what the artifact computes in is what `precision` says
        module=module.eval().float(),
        digest=f"sha256:{digest}",
        origin={"kind": "torchscript", "file": path.name, "file_sha256": digest},
    )


def _refuse_state(path: Path, module: ScriptModule) -> None:
    """Raise SourceError where the program keeps something in an attribute that is not a buffer, which no state is."""
    buffers = {name.rpartition(".")[2] for name, _ in module.named_buffers(remove_duplicate=False)}
    assigned = [name for name in _assigned(module.inlined_graph) if name not in buffers]
    if assigned:
        raise SourceError(
            f"{path} keeps {assigned[0]} from one call to the next in an attribute, which is not a buffer",
            code="B0318",
            hint="load it in a factory of your own (`kind: python`) and return a module that takes what it keeps as an "
            "input and returns it, as a part of the program may do already",
            key="source.file",
        )


def _assigned(block: torch.Graph | torch.Block) -> Iterator[str]:
    for node in block.nodes():
        if node.kind() == "prim::SetAttr":
            yield node.s("name")
        for inner in node.blocks():
            yield from _assigned(inner)


_NUMBERS = ("int", "float", "bool", "number", "Scalar")


def _check_numbers(path: Path, arguments: Sequence[torch.Argument], called: Sequence[str], spec: BuildSpec) -> None:
    """Raise SourceError for an input where the program takes a number, which is decided while it is traced."""
    named = {argument.name: argument for argument in arguments}
    matched = [named[name] for name in called] if set(called) <= set(named) else arguments
    for (name, given), argument in zip(spec.input.items(), matched, strict=False):
        if str(argument.type) in _NUMBERS and not isinstance(given, ConstantInput):
            raise SourceError(
                f"{path} takes {argument.name} as a number ({argument.type}), and the recipe gives {name} as an array",
                code="B0316",
                hint=f"write `{name}: {{constant: …}}` with the value for which the artifact is made",
                key=f"input.{name}",
            )


def open_script(path: Path) -> Any:
    """The module of an archive; raises SourceError where it is damaged or would do more than compute."""
    try:
        return load_script(path)
    except RefusedArchiveError as error:
        hint = error.hint or "a model computes: leave out what reads, writes or prints, and save it with torch.jit.save"
        raise SourceError(f"{path} is not loaded: {error}", code="B0304", hint=hint, key="source.file") from error
    except Exception as error:  # the reader is C++, whose exceptions become whatever Python has for them
        raise SourceError(
            f"{path} cannot be loaded: {first_line(error)}",
            code="B0302",
            hint="operators of a package that is not imported here (such as torchvision's nms) cannot be loaded",
            key="source.file",
        ) from error
