"""From a file to an exported program: reads, traces, names and tidies."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from coreml_runtime.dtypes import Precision, held
from coreml_runtime.errors import UnsupportedError
from coreml_runtime.export.interface import Taken, taken
from coreml_runtime.export.matching import match_forms
from coreml_runtime.export.module import module_of
from coreml_runtime.export.needs import Needs, needs_of
from coreml_runtime.export.stages import open_stages
from coreml_runtime.export.tidy import tidy
from coreml_runtime.features import ArrayFeature, Feature
from coreml_runtime.forms import Form
from coreml_runtime.labels import labels_of
from coreml_runtime.ops.random import drawn_by_torch
from coreml_runtime.prepack import without_packing

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from torch.export import ExportedProgram
    from torch.fx import Node


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A program, and what it does not say of itself.

    `features` is what the file declares of inputs and outputs. `inputs` and `outputs` are in the program's order, under
    the file's names; `fixed` are inputs with sizes that the file leaves open and the program has at their default.
    `states` are by name the paths of their buffers. `left` says what of a pipeline stayed behind, and what the app has
    to do instead. `has_half` is whether anything computes in float16 as the file declares it; `single` are the modules
    of operators that do not. `forms` holds by path the weights that the file stores compressed, and how;
    `paths` are the modules of operators; `needs` says what not every format can hold.
    """

    program: ExportedProgram
    features: Mapping[str, Feature]
    inputs: tuple[Taken, ...]
    fixed: tuple[str, ...]
    outputs: tuple[str, ...]
    states: Mapping[str, str]
    labels: tuple[str, ...] | None
    left: tuple[str, ...]
    has_half: bool
    single: tuple[str, ...]
    forms: Mapping[str, Form]
    paths: tuple[str, ...]
    needs: Needs
    specification: Message


def export(
    path: str | Path, function: str | None = None, precision: Precision = "native", *, flexible: bool = True
) -> Exported:
    """The network in the file as a `torch.export.ExportedProgram`.

    With `precision` "native" it computes in the types that the file declares, with "fast" in float32 throughout; no
    rounding is added to either. Images are float tensors (1, C, H, W) of levels from 0 to 255. Sizes that the file
    leaves open stay open where the operators permit it, and unless `flexible` is False.
    Raises ModelError (damaged) and UnsupportedError, which names the operators that cannot be exported.
    """
    with without_packing():
        staged = open_stages(path, function, precision)
    inputs = taken(staged.inputs)
    states = {name: _zeros(feature, precision) for name, feature in staged.states.items()}
    module = module_of(staged.run, [each.name for each in inputs], staged.operators, states, staged.outputs)
    program, kept = _trace(module, inputs if flexible else [replace(each, ranges={}) for each in inputs])
    tidy(program, staged.weights, module.paths, staged.outputs)
    return Exported(
        program=program,
        features=staged.inputs | staged.declared,
        inputs=kept,
        fixed=tuple(each.name for each, now in zip(inputs, kept, strict=True) if each.ranges != now.ranges),
        outputs=staged.outputs,
        states=module.state_paths,
        labels=labels_of(staged.specification),
        left=staged.left,
        has_half="fp16" in staged.precisions.values(),
        single=tuple(
            module.paths[name] for name, type_ in staged.precisions.items() if type_ == "fp32" and name in module.paths
        ),
        forms=match_forms(program.state_dict, staged.forms),
        paths=tuple(module.paths.values()),
        needs=needs_of(program, module.paths, kept),
        specification=staged.specification,
    )


def _zeros(feature: ArrayFeature, precision: Precision) -> Tensor:
    return torch.zeros(feature.shape, dtype=held(feature.dtype, precision))


def _trace(module: torch.nn.Module, inputs: Sequence[Taken]) -> tuple[ExportedProgram, tuple[Taken, ...]]:
    """The program, and its inputs with the axes that are flexible in it.

    Where an operator is written out for each size of an axis, as a recurrent one for each step, the axis is fixed at
    the size that the file has by default.
    """
    program = _export(module, inputs)
    kept = tuple(_still_flexible(each, node) for each, node in zip(inputs, _user_inputs(program), strict=True))
    return (program, kept) if kept == tuple(inputs) else (_export(module, kept), kept)


def _export(module: torch.nn.Module, inputs: Sequence[Taken]) -> ExportedProgram:
    examples = tuple(each.example() for each in inputs)
    shapes = tuple({axis: _dimension(*span) for axis, span in each.ranges.items()} for each in inputs)
    try:
        with torch.no_grad(), _quiet(), drawn_by_torch():
            return torch.export.export(module, examples, dynamic_shapes=shapes if any(shapes) else None, strict=False)
    except Exception as error:
        known = _unsupported(error)
        if known is not None:
            raise known from error
        raise UnsupportedError(f"torch.export: {_first_lines(error)}") from error


def _dimension(low: int, high: int | None) -> object:
    return torch.export.Dim.AUTO(min=low, max=high)


def _user_inputs(program: ExportedProgram) -> list[Node]:
    names = set(program.graph_signature.user_inputs)
    return [node for node in program.graph_module.graph.nodes if node.op == "placeholder" and node.name in names]


def _is_fixed(size: int | torch.SymInt) -> bool:
    """Whether a size is a number, also one that torch still writes as a symbol and holds by a guard."""
    return isinstance(size, int) or bool(size.node.shape_env.replace(size.node.expr).is_number)


def _still_flexible(given: Taken, node: Node) -> Taken:
    sizes = node.meta["val"].shape
    ranges = {axis: span for axis, span in given.ranges.items() if not _is_fixed(sizes[axis])}
    return replace(given, ranges=ranges)


def _unsupported(error: BaseException | None) -> UnsupportedError | None:
    """What an operator raised, behind whatever torch made of it."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, UnsupportedError):
            return error
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:3]) if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings about its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
