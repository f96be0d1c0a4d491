"""A `.pt2` file, as `torch.export.save` writes it."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.utils._pytree import tree_unflatten

from builder.artifacts.stages import LoadedModel
from builder.errors import BuilderError, SourceError
from builder.model.calling import Arguments
from builder.model.sources.archives import RefusedArchiveError, first_line
from builder.model.sources.download import check_digest, file_digest
from builder.model.sources.exported_archive import load_exported
from builder.model.sources.exported_single import has_half, to_single
from builder.model.sources.programs import EXPORTED, check_count, check_kind
from builder.spec import BuildSpec
from builder.spec.inputs import ConstantInput, ImageInput, model_shape
from builder.spec.source import ExportedProgramSource
from builder.util.bounded import bounded

EXPORT_AGAIN = (
    "export it again with this version of torch: programs of another version may not load, and objects of Python "
    "(in weights, constants or sample inputs) never do"
)


class ExportedModule(torch.nn.Module):
    """An exported program as a module; whether it trains was decided when it was exported."""

    def __init__(self, program: torch.export.ExportedProgram, order: tuple[int, ...]) -> None:
        super().__init__()
        # Its guards only repeat the shapes, which are compared when it is loaded, and cannot be traced.
        guards = {"check_guards": False} if "check_guards" in inspect.signature(program.module).parameters else {}
        self.program = to_single(program.module(**guards)) if has_half(program) else program.module(**guards)
        self._order = order
        self._dtypes = tuple(
            torch.float32 if value.dtype is torch.float16 else value.dtype for value in _user_values(program).values()
        )
        self._leaves = tuple(user_arguments(program))
        self._structure = program.call_spec.in_spec

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Run the program on inputs in the recipe's order; int32 becomes int64 where it was exported so.

        They become the lists and dictionaries that the program takes, with the numbers that it was exported with.
        """
        ordered = (inputs[index] for index in self._order)
        given = iter([torch.as_tensor(x).to(dtype) for x, dtype in zip(ordered, self._dtypes, strict=True)])
        leaves = [next(given) if name is not None else value for name, value in self._leaves]
        positional, named = tree_unflatten(leaves, self._structure)
        if torch.compiler.is_compiling():
            return self.program(*positional, **named)
        with bounded("the exported program"):
            return self.program(*positional, **named)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        copied = memo[id(self)] = type(self).__new__(type(self))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, where it copies what it calls deprecated
            vars(copied).update(copy.deepcopy(vars(self), memo))
        return copied

    def train(self, mode: bool = True) -> Self:
        """Note the mode; the graph itself refuses to change."""
        self.training = mode
        return self


def load_exported_program(source: ExportedProgramSource, spec: BuildSpec) -> LoadedModel:
    """Load the program; raises SourceError when it is something else, damaged, in training mode, or of other shapes."""
    path = Path(source.file)
    digest = file_digest(path)
    check_digest(path, digest, source.sha256)
    check_kind(path, EXPORTED)
    program = open_exported(path)
    with rebuilding(path):
        _refuse_training(path, program)
        _refuse_numbers(path, program)
        names = tuple(_user_values(program))
        called = Arguments(spec.input).names
        check_count(path, names, called, required=len(names))
        order = tuple(called.index(name) for name in _order(names, called))
        _check_inputs(path, program, spec, tuple(tuple(spec.input)[index] for index in order))
        module = ExportedModule(program, order)
    return LoadedModel(
        module=module.eval().requires_grad_(False),
        digest=f"sha256:{digest}",
        origin={"kind": "exported_program", "file": path.name, "file_sha256": digest},
    )


def open_exported(path: Path) -> torch.export.ExportedProgram:
    """The program of a file, which runs no code of its own; raises SourceError where it would, or is damaged."""
    with rebuilding(path), path.open("rb") as stream:
        return load_exported(stream)


@contextmanager
def rebuilding(path: Path) -> Iterator[None]:
    """Say what is raised while a program is made of a file: it is JSON, whose parts need not go together."""
    try:
        yield
    except BuilderError:
        raise
    except RefusedArchiveError as error:
        raise SourceError(
            f"{path} is not loaded: {error}", code="B0304", hint=EXPORT_AGAIN, key="source.file"
        ) from error
    except Exception as error:  # it is rebuilt from JSON, so anything can be raised
        raise SourceError(
            f"{path} cannot be loaded: {first_line(error)}", code="B0302", hint=EXPORT_AGAIN, key="source.file"
        ) from error


def user_arguments(program: torch.export.ExportedProgram) -> Iterator[tuple[str | None, Any]]:
    """What the program takes, in its order: names of tensors, and None with the value for what is a constant of it."""
    for each in program.graph_signature.input_specs:
        if each.kind is InputKind.USER_INPUT:
            is_constant = isinstance(each.arg, ConstantArgument)
            yield (None, each.arg.value) if is_constant else (each.arg.name, None)


def _user_values(program: torch.export.ExportedProgram) -> dict[str, torch.Tensor]:
    """The example of each tensor that the program was exported with, in its order; sizes may be symbols."""
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    return {name: values[name] for name, _ in user_arguments(program) if name is not None}


def _order(own: tuple[str, ...], given: tuple[str, ...]) -> tuple[str, ...]:
    """The recipe's names in the program's order: by name where all are the program's own, else as they stand."""
    return own if set(own) == set(given) else given


def _refuse_training(path: Path, program: torch.export.ExportedProgram) -> None:
    for node in program.graph.nodes:
        operator = str(node.target).removeprefix("aten.")
        trains = (operator.startswith("dropout.") and len(node.args) > 2 and node.args[2] is True) or (
            operator.startswith("batch_norm.") and len(node.args) > 5 and node.args[5] is True
        )
        if trains:
            raise SourceError(
                f"{path} was exported in training mode ({operator.partition('.')[0]} trains)",
                code="B0318",
                hint="export it after `model.eval()`",
                key="source.file",
            )


def _refuse_numbers(path: Path, program: torch.export.ExportedProgram) -> None:
    """Raise SourceError where the program takes a number that was left open, which an artifact cannot."""
    for name, value in _user_values(program).items():
        if not isinstance(value, torch.Tensor):
            raise SourceError(
                f"{path} takes {name} as a number that is open, and Core ML takes arrays",
                code="B0316",
                hint="export it again with the value for which the artifact is made, or with a tensor in its place",
                key="source.file",
            )


def _check_inputs(path: Path, program: torch.export.ExportedProgram, spec: BuildSpec, order: tuple[str, ...]) -> None:
    """Compare shapes and kinds of dtype; a dimension that the program leaves open fits every size."""
    for (own, value), name in zip(_user_values(program).items(), order, strict=True):
        given = spec.input[name]
        if isinstance(given, ConstantInput):
            continue
        shape = model_shape(given)
        fits = len(shape) == len(value.shape) and all(
            wanted == size for wanted, size in zip(shape, value.shape, strict=True) if isinstance(size, int)
        )
        if not fits:
            sizes = ", ".join(str(size) if isinstance(size, int) else "?" for size in value.shape)
            raise SourceError(
                f"{path} was exported for {own} of shape ({sizes}), and the recipe gives {name} as {shape}",
                code="B0316",
                hint="write that shape, or export it with `dynamic_shapes`",
                key=f"input.{name}.shape",
            )
        floating = isinstance(given, ImageInput) or given.dtype != "int32"
        if value.dtype.is_floating_point != floating:
            raise SourceError(
                f"{path} takes {own} as {str(value.dtype).removeprefix('torch.')}, and the recipe gives {name} as "
                f"{'float32' if floating else 'int32'}",
                code="B0316",
                hint=f"write `dtype: {'int32' if floating else 'float32'}`",
                key=f"input.{name}.dtype",
            )
