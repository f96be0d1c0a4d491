"""Decompositions of a program for Core AI, without tracing all of it anew where few of its operators have any.

`ExportedProgram.run_decompositions` traces every operator again, which takes most of a conversion. A program that has
been decomposed once is functional, and an operator without a decomposition stays what it is. So the others are put next
to each other in a small program, each once that differs, and what becomes of them there takes their places.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.fx import Graph, GraphModule, Node
from torch.utils._pytree import tree_flatten, tree_map_only

from builder.model.capture.composites import run_decompositions

_PLACED = ("nn_module_stack", "stack_trace", "source_fn_stack", "torch_fn")
"""What says where an operator comes from."""
_COMPOSITE = "CompositeImplicitAutograd"
_FUNCTIONAL = "ATEN"
"""The dialect of programs that were decomposed, be it with an empty table."""


def decompose(program: ExportedProgram, table: Mapping[Any, Any]) -> ExportedProgram:
    """What `program.run_decompositions(table)` gives, up to names; may change `program` for it.

    Programs with sizes that the app chooses, with branches or with operators that write are traced anew as a whole.
    """
    if not all(_stands_alone(node) for node in program.graph.nodes) or program.dialect != _FUNCTIONAL:
        return run_decompositions(program, table)
    concerned = [node for node in program.graph.nodes if node.op == "call_function" and _is_concerned(node, table)]
    if not concerned:
        return program
    kinds = {node: _kind(node) for node in concerned}
    first = {kind: node for node, kind in reversed(kinds.items())}
    parts = dict(zip(first, _parts(list(first.values()), table), strict=True))
    if not all(_takes_the_place(part, first[kind]) for kind, part in parts.items()):
        return run_decompositions(program, table)
    renamed: dict[str, str] = {}
    for node, kind in kinds.items():
        renamed |= _replace(node, parts[kind])
    for spec in program.graph_signature.output_specs:
        if isinstance(spec.arg, TensorArgument) and spec.arg.name in renamed:
            spec.arg = TensorArgument(name=renamed[spec.arg.name])
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def _stands_alone(node: Node) -> bool:
    """Whether an operator can be understood without what is around it: it computes tensors of fixed sizes."""
    if node.op in ("placeholder", "output"):
        return _is_fixed(node)
    if node.op != "call_function" or not _is_fixed(node):
        return False
    if node.target is operator.getitem:
        return True
    return isinstance(node.target, torch._ops.OpOverload) and not node.target._schema.is_mutable


def _is_fixed(node: Node) -> bool:
    """Whether all that is given is a tensor, or none, and its sizes are numbers; the end of a program gives nothing."""
    values = tree_flatten(node.meta.get("val"))[0]
    return all(
        each is None or (isinstance(each, torch.Tensor) and all(isinstance(size, int) for size in each.shape))
        for each in values
    )


def _is_concerned(node: Node, table: Mapping[Any, Any]) -> bool:
    """Whether torch looks for other operators to write this one with: by the table, or by itself."""
    target: Any = node.target
    if target in table:
        return True
    is_operator = isinstance(target, torch._ops.OpOverload)
    return is_operator and torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), _COMPOSITE)


def _kind(node: Node) -> str:
    """What an operator is, with the forms of its tensors: equal ones have the same decomposition."""
    tensors = _tensors(node)

    def form(given: Node) -> str:
        value = given.meta["val"]
        return f"<{tensors.index(given)} {type(value).__name__} {_layout(value)} {value.requires_grad}>"

    return f"{node.target} {tree_map_only(Node, form, (node.args, dict(node.kwargs)))!r}"


def _layout(value: torch.Tensor) -> tuple[object, ...]:
    return tuple(value.shape), value.stride(), value.dtype


def _tensors(node: Node) -> list[Node]:
    """The values that an operator reads, each once."""
    return list(node.all_input_nodes)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Of the small program, what became of one operator."""

    given: tuple[Node, ...]
    """What it reads, as placeholders."""
    operators: tuple[Node, ...]
    returned: tuple[Node | None, ...]
    is_one: bool
    """Whether the operator gives one tensor, and not several."""


def _takes_the_place(part: _Part, node: Node) -> bool:
    """Whether a part computes all that the operator gives, of nothing but what that reads, and lays it out alike.

    Decompositions of the operators behind it look at strides.
    """
    own = {*part.given, *part.operators}
    if any(made.op != "call_function" or not own.issuperset(made.all_input_nodes) for made in part.operators):
        return False
    pairs = zip(part.returned, _values(node), strict=True)
    found = [(returned, value) for returned, value in pairs if returned is not None]
    return all(
        returned in part.operators and _layout(returned.meta["val"]) == _layout(value) for returned, value in found
    )


def _values(node: Node) -> list[Any]:
    """The tensors that an operator gives, and None for a place where it gives none."""
    value = node.meta["val"]
    return [value] if isinstance(value, torch.Tensor) else list(value)


def _parts(nodes: Sequence[Node], table: Mapping[Any, Any]) -> list[_Part]:
    """What becomes of each operator."""
    graph = Graph()
    taken = [[graph.placeholder(f"x{i}_{k}") for k in range(len(_tensors(node)))] for i, node in enumerate(nodes)]
    returned: list[Node] = []
    for node, placeholders in zip(nodes, taken, strict=True):
        given = dict(zip(_tensors(node), placeholders, strict=True))
        for original, placeholder in given.items():
            placeholder.meta["val"] = original.meta["val"]
        copied = graph.node_copy(node, given.__getitem__)
        returned += _outputs(graph, copied, node)
    graph.output(tuple(returned))
    small = _program(graph, [each for group in taken for each in group], returned)
    return list(_read(run_decompositions(small, table), nodes))


def _outputs(graph: Graph, node: Node, original: Node) -> Iterator[Node]:
    """The tensors that a copy of an operator gives."""
    if isinstance(original.meta["val"], torch.Tensor):
        yield node
        return
    for place, value in enumerate(_values(original)):
        if value is not None:
            got = graph.call_function(operator.getitem, (node, place))
            got.meta = {**{key: node.meta[key] for key in _PLACED if key in node.meta}, "val": value}
            yield got


def _program(graph: Graph, given: Sequence[Node], returned: Sequence[Node]) -> ExportedProgram:
    """A program of its own, without weights."""
    in_spec, out_spec = tree_flatten((tuple(given), {}))[1], tree_flatten(tuple(returned))[1]
    signature = ModuleCallSignature(inputs=[], outputs=[], in_spec=in_spec, out_spec=out_spec)
    return ExportedProgram(
        root=GraphModule({}, graph),
        graph=graph,
        graph_signature=ExportGraphSignature(
            input_specs=[InputSpec(InputKind.USER_INPUT, TensorArgument(name=each.name), None) for each in given],
            output_specs=[
                OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(name=each.name), None) for each in returned
            ],
        ),
        state_dict={},
        range_constraints={},
        module_call_graph=[ModuleCallEntry(fqn="", signature=signature)],
        example_inputs=(tuple(each.meta["val"] for each in given), {}),
    )


def _read(small: ExportedProgram, nodes: Sequence[Node]) -> Iterator[_Part]:
    """Take the decomposed small program apart again."""
    placeholders = iter([node for node in small.graph.nodes if node.op == "placeholder"])
    (end,) = (node for node in small.graph.nodes if node.op == "output")
    outputs = iter(end.args[0])
    for node in nodes:
        given = tuple(next(placeholders) for _ in _tensors(node))
        returned = tuple(None if value is None else next(outputs) for value in _values(node))
        is_one = isinstance(node.meta["val"], torch.Tensor)
        yield _Part(given=given, operators=_between(small.graph, returned), returned=returned, is_one=is_one)


def _between(graph: Graph, returned: Sequence[Node | None]) -> tuple[Node, ...]:
    """The operators that compute what is returned, in their order."""
    found: set[Node] = set()
    todo = [each for each in returned if isinstance(each, Node)]
    while todo:
        node = todo.pop()
        if node not in found and node.op != "placeholder":
            found.add(node)
            todo += node.all_input_nodes
    return tuple(node for node in graph.nodes if node in found)


def _replace(node: Node, part: _Part) -> dict[str, str]:
    """Let the operators of a part take the place of one; returns new names of values by their old ones."""
    graph = node.graph
    made: dict[Node, Node] = dict(zip(part.given, _tensors(node), strict=True))
    with graph.inserting_before(node):
        for each in part.operators:
            new = graph.node_copy(each, made.__getitem__)
            new.meta = {key: node.meta[key] for key in _PLACED if key in node.meta} | {"val": each.meta["val"]}
            made[each] = new
    if part.is_one:
        (output,) = part.returned
        return _instead(node, made[output]) if output is not None else {}
    renamed: dict[str, str] = {}
    for user in list(node.users):
        assert user.target is operator.getitem, "of several values one is taken"
        place: Any = user.args[1]
        output = part.returned[place]
        assert output is not None, "what is taken is there"
        renamed |= _instead(user, made[output])
    graph.erase_node(node)
    return renamed


def _instead(old: Node, new: Node) -> dict[str, str]:
    old.replace_all_uses_with(new)
    old.graph.erase_node(old)
    return {old.name: new.name}
