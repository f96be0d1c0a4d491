"""Walk a captured program through coremltools' frontend, with a stand-in for whatever it refuses, to find all of that.

Only the frontend runs, which looks at each operator once: none of the hundred passes, no weights are written.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from builder.artifacts.stages import CapturedProgram, PreparedModel
from builder.backends.coreml.convert import state_types
from builder.backends.coreml.importing import import_coremltools
from builder.backends.coreml.input_types import input_types
from builder.backends.coreml.lowerings.assignment import assignments
from builder.backends.coreml.lowerings.decomposed import written_out
from builder.backends.coreml.lowerings.register import registered_lowerings
from builder.backends.coreml.lowerings.torch_definitions import has_definition, kind_of_node
from builder.backends.coreml.lowerings.writes import functional_writes
from builder.backends.coreml.onnx_import import mil_program
from builder.backends.coreml.patches.apply import patched
from builder.backends.coreml.patches.conversion import fast_conversion
from builder.backends.coreml.preflight.operators import Operator, TensorFact
from builder.backends.coreml.preflight.rules import MOST_DIMENSIONS
from builder.backends.coreml.preflight.torchscript import top_level_names
from builder.backends.coreml.refusals import refused_by, why_refused
from builder.spec import BuildSpec

if TYPE_CHECKING:
    from types import ModuleType

    from coremltools.converters.mil.frontend.torch.converter import TranscriptionContext
    from coremltools.converters.mil.frontend.torch.internal_graph import InternalTorchIRGraph, InternalTorchIRNode
    from coremltools.converters.mil.mil import Block, Program, Var
    from torch.export import ExportedProgram

    from builder.backends.coreml.lowerings.lowering import Convert


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An operator that does not convert."""

    operator: Operator | None
    """None where the program as a whole is refused."""
    kind: str
    """As coremltools looks it up."""
    summary: str
    by: Literal["builder", "coremltools"]
    """Whose code refused it: a lowering of ours, or coremltools."""
    is_missing: bool
    """Whether there is no lowering at all, rather than one that refuses this case."""


@dataclass(kw_only=True)
class Walk:
    """What one walk found, and whether it came to the end."""

    refusals: list[Refusal] = field(default_factory=list)
    ours: list[tuple[Operator, str]] = field(default_factory=list)
    """Operators that a lowering of ours converted, each with coremltools' name for it."""
    complete: bool = True
    """False where it stopped before the end."""
    high_ranks: list[tuple[Operator | None, int]] = field(default_factory=list)
    """What is left of more than 5 dimensions after coremltools has split what it can, with the rank."""


Located = Callable[["TranscriptionContext", "InternalTorchIRNode"], Operator | None]
"""From coremltools' context and node to the operator."""


def dry_conversion(
    captured: CapturedProgram,
    operators: Sequence[Operator] | Mapping[str, Operator],
    prepared: PreparedModel,
    spec: BuildSpec,
) -> Walk:
    """Return what of `captured` does not convert; `operators` are its own, by node where it is an exported program."""
    ct = import_coremltools()
    walk = Walk()
    locate = _by_node(operators) if isinstance(operators, Mapping) else _by_order(operators)
    exact = not any(prepared.flexible)
    if captured.method == "export" and (blocks := _with_blocks(captured)):
        found = {node.name: node.target.name() for node in blocks}
        walk.refusals = [
            Refusal(operator=operators.get(name) if isinstance(operators, Mapping) else None, kind=kind, summary="",
                    by="coremltools", is_missing=True)
            for name, kind in found.items()
        ]  # fmt: skip
        return replace(walk, complete=False)
    try:
        with (
            redirect_stdout(io.StringIO()),
            fast_conversion(),
            registered_lowerings() as used,
            functional_writes(),
            assignments(),
        ):
            walker = _Walker(walk, locate, used, exact=exact)
            with _walked(walker, captured):
                program = _convert(ct, captured, prepared, spec)
            walk.high_ranks = list(_high_ranks(program, walker.seen))
    except _StoppedError:
        walk.complete = False
    except Exception as error:
        if not walk.refusals:
            walk.complete = False
            message = why_refused(error)
            walk.refusals.append(
                Refusal(operator=None, kind="", summary=message, by=refused_by(error), is_missing=False)
            )
    return walk


_PASSES = [
    "common::const_elimination",
    "common::expand_high_rank_reshape_and_transpose",
    "common::dead_code_elimination",
]
"""What splits a reshape, a transpose and a reshape back into steps of at most 4 dimensions, as a conversion does."""


def _convert(ct: ModuleType, captured: CapturedProgram, prepared: PreparedModel, spec: BuildSpec) -> Program:
    if captured.method == "onnx":
        return mil_program(ct, captured.program.model, prepared, spec, list(prepared.output_names))
    return ct.convert(
        captured.program,
        inputs=input_types(ct, spec),
        states=state_types(ct, prepared, spec),
        convert_to="milinternal",
        # for a neural network the frontend takes the oldest operators, as it does where no target is given
        minimum_deployment_target=getattr(ct.target, spec.target.coremltools_name)
        if spec.format == "mlpackage"
        else None,
        pass_pipeline=ct.PassPipeline(pass_names=_PASSES),
        skip_model_load=True,
    )


def missing_operators(captured: CapturedProgram) -> tuple[str, ...]:
    """The operators of `captured` that surely have no lowering, found in milliseconds, before a conversion begins.

    Of a TorchScript program those of nested blocks, which may never run, and in-place ones are left to coremltools.
    """
    if captured.method not in ("trace", "script", "export"):
        return ()
    import_coremltools()
    captured = written_out(captured)
    with registered_lowerings():
        from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY

        if captured.method == "export":
            calls = [node for node in captured.program.graph.nodes if node.op == "call_function"]
            if blocks := _with_blocks(captured):  # whatever the others are: coremltools does not get that far
                return tuple(dict.fromkeys(node.target.name() for node in blocks))
            kinds = [kind_of_node(node) for node in calls]
        else:
            kinds = [name for name in top_level_names(captured.program) if not name.endswith("_")]
        unknown = (kind for kind in kinds if _TORCH_OPS_REGISTRY.get_func(kind) is None)
        return tuple(dict.fromkeys(kind for kind in unknown if captured.method == "export" or not has_definition(kind)))


def _with_blocks(captured: CapturedProgram) -> list[Any]:
    """The branches and loops of an exported program."""
    from torch._ops import HigherOrderOperator

    return [node for node in captured.program.graph.nodes if isinstance(node.target, HigherOrderOperator)]


def _high_ranks(program: Program, seen: Mapping[str, Operator | None]) -> Iterator[tuple[Operator | None, int]]:
    """Tensors of more dimensions than Core ML has, in the program or a block of it."""

    def walk(block: Block) -> Iterator[tuple[Operator | None, int]]:
        for op in block.operations:
            for inner in op.blocks:
                yield from walk(inner)
            rank = max((getattr(output, "rank", 0) for output in op.outputs), default=0)
            if rank > MOST_DIMENSIONS and op.op_type != "const":
                yield seen.get(op.outputs[0].name), rank

    for function in program.functions.values():
        yield from walk(function)


class _StoppedError(Exception):
    """The walk cannot go on: nothing is known of what the refused operator gives."""


class _Walker:
    """Stands in for coremltools' conversion of a single node."""

    def __init__(self, walk: Walk, locate: Located, used: Mapping[str, int], *, exact: bool) -> None:
        self._walk, self._locate, self._used, self._exact = walk, locate, used, exact
        self.seen: dict[str, Operator | None] = {}
        """By the name of a variable: the operator that gave it."""
        self._guessed: set[str] = set()
        """Values of which a stand-in does not know enough, and what comes of them: their refusals say nothing."""

    def convert(self, original: Convert, context: TranscriptionContext, node: InternalTorchIRNode) -> None:
        """Convert the node, or note why not and put a stand-in in its place."""
        follows = bool(self._guessed.intersection(_names(node.inputs)))
        before = dict(self._used)
        try:
            original(context, node)
        except _StoppedError:
            raise
        except Exception as error:
            self._refuse(context, node, error, follows=follows)
            return
        if follows:
            self._guessed.update([node.name, *node.outputs])
        self.seen.update(dict.fromkeys([node.name, *node.outputs], self._locate(context, node)))
        new = [name for name, times in self._used.items() if times != before.get(name)]
        if new and (operator := self._locate(context, node)) is not None:
            self._walk.ours.append((operator, new[0]))

    def _refuse(
        self, context: TranscriptionContext, node: InternalTorchIRNode, error: Exception, *, follows: bool
    ) -> None:
        operator = self._locate(context, node)
        if not follows:
            message = why_refused(error)
            missing = isinstance(error, NotImplementedError) and message.endswith("not implemented.")
            refusal = Refusal(
                operator=operator, kind=node.kind, summary=message, by=refused_by(error), is_missing=missing
            )
            self._walk.refusals.append(refusal)
        facts = operator.outputs if operator is not None else ()
        if not facts or len(facts) < len(node.outputs) or any(not _is_known(fact) for fact in facts):
            raise _StoppedError
        stand_ins = [_stand_in(fact) for fact in facts if fact is not None]
        if follows or not self._exact or any(fact.dtype.is_complex for fact in facts if fact and fact.dtype):
            self._guessed.update([node.name, *node.outputs])
        if len(node.outputs) == len(stand_ins):
            for name, value in zip(node.outputs, stand_ins, strict=True):
                context.add(value, torch_name=name)
        else:  # an exported program gives several results one name
            context.add(tuple(stand_ins), torch_name=node.name)


def _is_known(fact: TensorFact | None) -> bool:
    return fact is not None and fact.dtype is not None and fact.shape is not None and None not in fact.shape


def _stand_in(fact: TensorFact) -> Var:
    """A variable of the same shape and dtype that nothing computes, so that nobody takes it for a constant."""
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - as coremltools itself calls it
    from coremltools.converters.mil.mil import types
    from coremltools.converters.mil.mil.program import Placeholder

    assert fact.dtype is not None
    dtype = types.bool if fact.dtype == torch.bool else types.fp32 if fact.dtype.is_floating_point else types.int32
    if fact.dtype.is_complex:
        dtype = types.fp32
    value = Placeholder(sym_shape=fact.shape or (1,), dtype=dtype).outputs[0]
    return value if fact.shape else mb.squeeze(x=value)


@contextmanager
def _walked(walker: _Walker, captured: CapturedProgram) -> Iterator[None]:
    """Let `walker` see each node, and let the frontend accept an exported program whose operators it does not know."""

    def walking(original: Convert) -> Convert:
        return lambda context, node: walker.convert(original, context, node)

    with ExitStack() as scoped:
        scoped.enter_context(patched("coremltools.converters.mil.frontend.torch.ops:convert_single_node", walking))
        if captured.method == "export":
            scoped.enter_context(_known_for_now(captured.program))
        yield


@contextmanager
def _known_for_now(program: ExportedProgram) -> Iterator[None]:
    """Register a lowering that refuses for each operator without one: the frontend looks for all before it begins."""
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY

    known = _TORCH_OPS_REGISTRY.name_to_func_mapping
    missing = {
        kind
        for node in program.graph.nodes
        if node.op == "call_function" and _TORCH_OPS_REGISTRY.get_func(kind := kind_of_node(node)) is None
    }

    def refuse(context: object, node: InternalTorchIRNode) -> None:
        raise NotImplementedError(f"PyTorch convert function for op '{node.kind}' not implemented.")

    known.update(dict.fromkeys(missing, refuse))
    try:
        yield
    finally:
        for kind in missing:
            del known[kind]


def _by_node(operators: Mapping[str, Operator]) -> Located:
    return lambda _, node: operators.get(node.name)


def _by_order(operators: Sequence[Operator]) -> Located:
    """The operator that is as many-th of its name as the node is of its kind, where both are equally many."""
    by_name: dict[str, list[Operator]] = defaultdict(list)
    for operator in operators:
        by_name[_plain(operator.name)].append(operator)
    found: dict[int, Operator] = {}

    def locate(context: TranscriptionContext, node: InternalTorchIRNode) -> Operator | None:
        if not found:
            nodes: dict[str, list[InternalTorchIRNode]] = defaultdict(list)
            for each in _internal_nodes(context.torch_graph):
                nodes[_plain(each.kind)].append(each)
            for kind, group in nodes.items():
                if len(group) == len(by_name[kind]):
                    found.update((id(each), operator) for each, operator in zip(group, by_name[kind], strict=True))
        return found.get(id(node))

    return locate


def _plain(name: str) -> str:
    """A name without what coremltools' own passes add or take away."""
    return name.lower().removeprefix("_internal_op_tensor_inplace_").strip("_")


def _internal_nodes(block: InternalTorchIRGraph) -> Iterator[InternalTorchIRNode]:
    for node in block.nodes:
        yield node
        for inner in node.blocks:
            yield from _internal_nodes(inner)


def _names(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _names(entry)
