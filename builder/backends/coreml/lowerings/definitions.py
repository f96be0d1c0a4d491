"""Operators that neither coremltools nor a lowering of ours converts, written with others as torch defines them.

`decomposed` does that for whole exported programs before they are converted. Here it is done for one operator, while
it is converted: of a trace, which has no other chance, and where a case of an operator is refused that is known else.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from builder.backends.coreml.lowerings.lowering import Convert, Var
from builder.backends.coreml.lowerings.operator_calls import possible_calls, without_out
from builder.backends.coreml.lowerings.torch_definitions import (
    completed,
    kind_of_node,
    unknown_definitions,
)
from builder.backends.coreml.patches.apply import patched
from builder.model.capture.composites import core_decompositions

if TYPE_CHECKING:
    import torch
    from coremltools.converters.mil.frontend.torch.converter import TranscriptionContext
    from coremltools.converters.mil.frontend.torch.internal_graph import InternalTorchIRNode
    from torch._ops import OpOverload
    from torch.fx import GraphModule, Node


WHY = "torch defines it by others, which convert"
DEFINED = " (as torch defines it)"
"""Behind the names of operators that are counted so."""

_ROUNDS = 5
"""What an operator is made of may have no lowering either."""

_NOT_TRIED = frozenset({"if", "loop", "constant", "getattr", "listconstruct", "tupleconstruct", "to", "detach"})
"""Parts of a program rather than operators, and casts, which definitions consist of."""


class _UndefinedError(NotImplementedError):
    """What torch writes an operator with has no lowering either."""


@contextmanager
def definitions_tried(used: Counter[str]) -> Iterator[None]:
    """Within the block, convert what is refused by torch's own definition; refusals stay where that does not do."""

    def trying(original: Convert) -> Convert:
        def convert(context: TranscriptionContext, node: InternalTorchIRNode) -> None:
            node = without_out(node)
            try:
                original(context, node)
            except Exception as refused:
                _without_half_made()
                # a write in place is refused where a trace loses it, which no definition brings back
                if node.kind.endswith("_") or node.kind in _NOT_TRIED or node.blocks or _is_within_definition(context):
                    raise
                lowered = defined(context, node)
                if lowered is None:
                    raise
                try:
                    with _registered(node.kind, lowered):
                        original(context, node)
                except _UndefinedError:
                    raise refused from None
                used[node.kind + DEFINED] += 1

        return convert

    with patched("coremltools.converters.mil.frontend.torch.ops:convert_single_node", trying):
        yield


def _without_half_made() -> None:
    """Take an operator out of the program whose inputs were refused when it was already in it: it has no outputs."""
    from coremltools.converters.mil.mil.block import curr_block

    block = curr_block()
    for op in [op for op in block.operations if op.outputs is None]:
        for value in op.get_flattened_inputs():
            value.remove_child_op(op)
        block.operations.remove(op)
        op.enclosing_block = None


def defined(context: TranscriptionContext, node: InternalTorchIRNode) -> Convert | None:
    """A lowering for this node alone, by the operators that torch makes of it; None where there is nothing new."""
    try:
        calls = possible_calls(context, node)
    except Exception:  # of arguments that coremltools keeps in a form of its own, as grids of affine maps
        return None
    for operator, args, kwargs in calls:
        leaves: list[Var] = []
        template = _template((args, kwargs), leaves)
        graph = _written_out(operator, template, leaves)
        if graph is not None and not _is_itself(graph, operator):
            return partial(_convert_graph, graph=graph, leaves=leaves)
    return None


class _Place:
    """Stands for a variable within arguments."""

    def __init__(self, index: int) -> None:
        self.index = index


def _template(value: Any, leaves: list[Var]) -> Any:
    """The arguments with places instead of variables and tensors, which go into `leaves`."""
    if isinstance(value, dict):
        return {key: _template(each, leaves) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_template(each, leaves) for each in value)
    if hasattr(value, "rank") or hasattr(value, "numpy"):
        leaves.append(value)
        return _Place(len(leaves) - 1)
    return value


def _filled(value: Any, tensors: Sequence[object]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(each, tensors) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_filled(each, tensors) for each in value)
    return tensors[value.index] if isinstance(value, _Place) else value


def _written_out(operator: OpOverload, template: Any, leaves: Sequence[Var]) -> GraphModule | None:
    """The graph that torch makes of the operator for inputs of these sizes; None where it cannot.

    Raises nothing: whatever torch says of sizes that it does not know or of values that it wants to see, the refusal
    that there was before says more.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    examples = [example for each in leaves if (example := _example(each)) is not None]
    if len(examples) < len(leaves):
        return None

    def call(*tensors: object) -> tuple[object, ...]:
        args, kwargs = _filled(template, tensors)
        result = operator(*args, **kwargs)
        return tuple(result) if isinstance(result, list | tuple) else (result,)

    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL)  # it logs what is raised here
    try:
        with warnings.catch_warnings(), torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
            warnings.simplefilter("ignore")
            fakes = [mode.from_tensor(each) for each in examples]
            core = core_decompositions()
            table: Mapping[OpOverload, Callable[..., object]] = {operator: core[operator]} if operator in core else {}
            graph = make_fx(torch.func.functionalize(call), decomposition_table=table)(*fakes)
            for _ in range(_ROUNDS):
                if not (table := unknown_definitions(graph, inner=operator)) and not _writes(graph):
                    break
                graph = make_fx(torch.func.functionalize(graph), decomposition_table=table)(*fakes)
    except Exception:
        return None
    finally:
        log.setLevel(level)
    completed(graph)
    graph.graph.eliminate_dead_code()
    return graph


def _writes(graph: GraphModule) -> bool:
    """Whether anything is written in place, as definitions do that are not torch's functional ones."""
    return any(node.op == "call_function" and _name(node).endswith("_") for node in graph.graph.nodes)


def _name(node: Node) -> str:
    return str(node.target).removeprefix("aten.").partition(".")[0]


def _example(variable: Var) -> torch.Tensor | None:
    """A tensor of a variable's sizes and dtype; None where the app chooses a size."""
    import torch
    from coremltools.converters.mil.mil import types

    if isinstance(variable, torch.Tensor):
        return variable
    if not all(isinstance(size, int) for size in variable.shape):
        return None
    dtypes = {
        types.fp32: torch.float32,
        types.fp16: torch.float16,
        types.int32: torch.int32,
        types.bool: torch.bool,
        types.complex64: torch.complex64,
    }
    dtype = dtypes.get(variable.dtype)
    return None if dtype is None else torch.zeros(tuple(variable.shape), dtype=dtype)


def _is_itself(graph: GraphModule, operator: OpOverload) -> bool:
    return any(node.target is operator for node in graph.graph.nodes)


def _is_within_definition(context: TranscriptionContext) -> bool:
    return getattr(context, "_within_definition", False) is True


def _convert_graph(
    context: TranscriptionContext, outer: InternalTorchIRNode, *, graph: GraphModule, leaves: Sequence[Var]
) -> None:
    """Convert torch's graph of one operator in its place, as nodes of an exported program."""
    from coremltools.converters.mil.frontend.torch.internal_graph import InternalTorchIRNode
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
    from coremltools.converters.mil.frontend.torch.utils import TorchFrontend

    before, context.frontend = context.frontend, TorchFrontend.TORCHEXPORT
    context._within_definition = True
    given = iter(leaves)
    try:
        for node in graph.graph.nodes:
            node._rename(f"{outer.name}_{node.name}")
            if node.op == "placeholder":
                value = next(given)
                context.add(value if hasattr(value, "rank") else _constant(value), torch_name=node.name)
            elif node.op == "get_attr":
                context.add(_constant(getattr(graph, node.target)), torch_name=node.name)
            elif node.op == "call_function":
                kind = kind_of_node(node)
                lower = _TORCH_OPS_REGISTRY.get_func(kind)
                if lower is None:
                    raise _UndefinedError(kind)
                lower(context, InternalTorchIRNode.from_exir_node(node))
            else:
                results = [context[value.name] for value in node.args[0]]
    finally:
        context.frontend = before
        context._within_definition = False
    _bind(context, outer, results)


def _constant(tensor: torch.Tensor) -> Var:
    import torch
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - as coremltools itself calls it

    if tensor.dtype in (torch.int64, torch.uint8, torch.int8, torch.int16):
        tensor = tensor.to(torch.int32)
    return mb.const(val=(tensor.float() if tensor.dtype == torch.float64 else tensor).numpy())


def _bind(context: TranscriptionContext, node: InternalTorchIRNode, results: Sequence[Var]) -> None:
    """Give the results the names of the node's outputs; an exported program gives several one name."""
    if len(node.outputs) == len(results):
        for name, value in zip(node.outputs, results, strict=True):
            context.add(value, torch_name=name)
    else:
        context.add(tuple(results), torch_name=node.name)


@contextmanager
def _registered(kind: str, lower: Convert) -> Iterator[None]:
    """Let coremltools convert one operator so; within it, operators of the same name are converted as before."""
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY

    known = _TORCH_OPS_REGISTRY.name_to_func_mapping
    before = known.get(kind)

    def restore() -> None:
        known.pop(kind, None)
        if before is not None:
            known[kind] = before

    def once(context: TranscriptionContext, node: InternalTorchIRNode) -> None:
        restore()
        lower(context, node)

    known[kind] = once
    try:
        yield
    finally:
        restore()
