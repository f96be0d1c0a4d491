"""Makes a traced program readable: names of the file for weights, operators and outputs, and nothing that is unused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.export.graph_signature import InputKind, InputSpec, OutputKind
from torch.fx import Node

from coreml_runtime.export.closing import close_loops
from coreml_runtime.export.module import identifier

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Weights = Mapping[str, Sequence[tuple[str, tuple[int, ...]]]]
"""By operator, the constants of the file that it reads: name and shape."""

_ROOT = "operators"
_NUMBERED = re.compile(r"(const|op)_\d+(_|$)")
"""Names that converters make up: an operator and its argument say more."""
_CHECKS = (torch.ops.aten._assert_tensor_metadata.default,)


def tidy(program: Any, weights: Weights, paths: Mapping[str, str], outputs: Sequence[str]) -> None:
    """Change the program in place; `paths` holds the module of each operator by its name in the file.

    Given   c_lifted_tensor_0, conv2d(x, c_lifted_tensor_0), relu(conv2d)
    Result  p_conv_1_weight, conv_1 = conv2d(x, p_conv_1_weight), relu_1 = relu(conv_1)
    """
    graph = program.graph_module.graph
    operators = {path: name for name, path in paths.items()}
    for node in list(graph.nodes):
        for key in ("stack_trace", "from_node", "source_fn_stack"):
            node.meta.pop(key, None)
        if node.target in _CHECKS:
            graph.erase_node(node)
    graph.eliminate_dead_code()
    close_loops(program)
    graph.eliminate_dead_code()
    for node in graph.nodes:
        _place(node)
        graph._graph_namespace._used_names.add(node.name)  # torch.export names inputs without a note of it there
    _name_constants(program, weights, operators)
    _name_operators(program)
    _name_outputs(program, outputs)
    graph.lint()
    program.graph_module.recompile()
    program.validate()


def _place(node: Node) -> None:
    """Let the stack of modules hold the operator alone: `conv_1`, not `operators.conv_1`."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return
    path, kind = next(reversed(stack.values()))
    plain = path.rpartition(f"{_ROOT}.")[2] if _ROOT in path else ""
    node.meta["nn_module_stack"] = {plain: (plain, kind)} if plain else {"": ("", kind)}


def operator_of(node: Node) -> str:
    """The module of the operator that a node belongs to; empty outside of all."""
    stack = node.meta.get("nn_module_stack") or {}
    return next((path for path, _ in stack.values()), "")


def _name_constants(program: ExportedProgram, weights: Weights, operators: Mapping[str, str]) -> None:
    """Parameters and buffers for constants, under the names of the file."""
    signature, graph = program.graph_signature, program.graph_module.graph
    nodes = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    taken, kept = {spec.target for spec in signature.input_specs if spec.target}, []
    taken |= {*operators, *dir(torch.fx.GraphModule)}  # a module and a parameter of one name would hide each other
    for spec in signature.input_specs:
        node = nodes[spec.arg.name]
        if spec.kind is not InputKind.CONSTANT_TENSOR:
            kept.append(spec)
            continue
        value = program.constants.pop(spec.target)
        if not node.users:
            graph.erase_node(node)
            continue
        path = _free(_constant_name(node, value, weights, operators), taken)
        is_weight = value.is_floating_point() and value.dim() > 0
        program.state_dict[path] = torch.nn.Parameter(value, requires_grad=False) if is_weight else value
        _rename(program, node, f"{'p' if is_weight else 'b'}_{identifier(path)}")
        kind, persistent = (InputKind.PARAMETER, None) if is_weight else (InputKind.BUFFER, True)
        kept.append(InputSpec(kind=kind, arg=type(spec.arg)(name=node.name), target=path, persistent=persistent))
    signature.input_specs[:] = kept


def _constant_name(node: Node, value: torch.Tensor, weights: Weights, operators: Mapping[str, str]) -> str:
    """What the file calls the constant of this shape that the first user reads; else the user and its argument."""
    user = next(iter(node.users))
    path = operator_of(user)
    known = [name for name, shape in weights.get(operators.get(path, ""), ()) if shape == tuple(value.shape)]
    if known and value.dim() and not _NUMBERED.match(known[0]):
        return identifier(known[0])
    argument = next(_argument_names(user, node), "constant")
    return f"{path}.{argument}" if path else "constant"


def _argument_names(user: Node, value: Node) -> Iterator[str]:
    schema = getattr(user.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema is not None else []
    yield from (name for name, given in zip(names, user.args, strict=False) if given is value)
    yield from (name for name, given in user.kwargs.items() if given is value)


def _free(name: str, taken: set[str]) -> str:
    chosen, number = name, 1
    while chosen in taken:
        chosen, number = f"{name}_{number}", number + 1
    taken.add(chosen)
    return chosen


def _name_operators(program: ExportedProgram) -> None:
    """The last step of each operator gets the operator's name, those before it `<operator>_<function>`."""
    nodes = [node for node in program.graph_module.graph.nodes if node.op == "call_function" and operator_of(node)]
    last = {operator_of(node): node for node in nodes}
    for node in nodes:
        _rename(program, node, f"_{node.name}")  # so that no name is taken by a node that is about to lose it
    for path, node in last.items():
        _rename(program, node, path)
    for node in nodes:
        if last[operator_of(node)] is not node:
            _rename(program, node, f"{operator_of(node)}_{_function(node)}")


def _name_outputs(program: ExportedProgram, outputs: Sequence[str]) -> None:
    """What is computed for an output has the output's name, unless it is another's too."""
    (end,) = (node for node in program.graph_module.graph.nodes if node.op == "output")
    specs = [spec for spec in program.graph_signature.output_specs if spec.kind is OutputKind.USER_OUTPUT]
    values = list(end.args[0])[-len(specs) :] if specs else []
    for value, name in zip(values, outputs, strict=True):
        if isinstance(value, Node) and value.op == "call_function" and values.count(value) == 1:
            _rename(program, value, identifier(name))


def _function(node: Node) -> str:
    packet = getattr(node.target, "overloadpacket", None)
    return identifier(str(packet or getattr(node.target, "__name__", "step")).rpartition(".")[2])


def _rename(program: ExportedProgram, node: Node, name: str) -> None:
    """Another name for a node, wherever the program holds it."""
    before = node.name
    node._rename(name)
    if node.op == "placeholder":
        node.target = node.name
    signature = program.graph_signature
    entries = [*signature.input_specs, *signature.output_specs]
    for call in program.module_call_graph:
        if call.signature is not None:
            entries += [*call.signature.inputs, *call.signature.outputs]
    for entry in entries:
        argument = getattr(entry, "arg", entry)
        if getattr(argument, "name", None) == before:
            argument.name = node.name
