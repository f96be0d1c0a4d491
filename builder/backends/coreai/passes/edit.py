"""How a rewrite changes an exported program: new operators with the shapes they give, and constants with new values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx import Node
from torch.utils._pytree import tree_map_only

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_CONSTANT = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


class Edit:
    """An exported program that is changed in place; what is new knows its `val`, as a conversion needs it."""

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.graph = program.graph_module.graph
        self.signature = program.graph_signature
        self._mode = self._find_mode()
        for node in self.calls(torch.ops.aten._assert_tensor_metadata.default):
            self.graph.erase_node(node)  # it holds types against what they were
        self._states = set(self.signature.buffers_to_mutate.values())
        self._targets = {
            spec.arg.name: spec.target
            for spec in self.signature.input_specs
            if spec.kind in _CONSTANT and spec.target not in self._states
        }

    def _find_mode(self) -> FakeTensorMode:
        for node in self.graph.nodes:
            if isinstance(node.meta.get("val"), FakeTensor):
                return node.meta["val"].fake_mode  # type: ignore[no-any-return] # torch says nothing of it
        return FakeTensorMode(allow_non_fake_inputs=True)

    def calls(self, *targets: object) -> Iterator[Node]:
        """The operators of these kinds in their order, or all; safe against changes of those already passed."""
        for node in list(self.graph.nodes):
            if node.op == "call_function" and (not targets or node.target in targets):
                yield node

    def value(self, node: object) -> torch.Tensor | None:
        """What a parameter or constant holds; None for everything that is computed, given or a state."""
        target = self._targets.get(node.name) if isinstance(node, Node) else None
        if target is None:
            return None
        found = self.program.state_dict.get(target)
        found = self.program.constants.get(target) if found is None else found
        return None if found is None else found.detach()

    def is_constant(self, node: Node) -> bool:
        """Whether `value` has something to say."""
        return node.name in self._targets

    def path(self, node: Node) -> str:
        """The path in the module of a parameter, buffer or constant."""
        return str(self._targets[node.name])

    def constants(self) -> dict[str, torch.Tensor]:
        """All that `value` knows of and the program uses, by path."""
        nodes = [node for node in self.graph.nodes if node.op == "placeholder" and node.users]
        return {self.path(node): value for node in nodes if (value := self.value(node)) is not None}

    def constant(self, path: str, value: torch.Tensor) -> Node:
        """A new constant with that value; where its path is taken, with a number behind it."""
        taken = self.program.state_dict.keys() | self.program.constants.keys()
        numbered = (f"{path}_{number}" for number in itertools.count(1))
        path = next(name for name in itertools.chain([path], numbered) if name not in taken)
        first = next(iter(self.graph.nodes))
        with self.graph.inserting_before(first):
            node: Node = self.graph.placeholder(re.sub(r"\W", "_", f"c_{path}"))
        node.target = node.name  # torch writes LayerNorm as layer_norm in names, and the converter asks for targets
        spec = InputSpec(kind=InputKind.BUFFER, arg=TensorArgument(name=node.name), target=path, persistent=True)
        self.signature.input_specs.insert(0, spec)
        self.program.state_dict[path] = value
        self._targets[node.name] = path
        node.meta["val"] = self.fake(value)
        return node

    def with_value(self, node: Node, value: torch.Tensor, user: str) -> Node:
        """A constant with another value for one user: itself, unless others use it too."""
        if len(node.users) > 1 or list(self._targets.values()).count(self.path(node)) > 1:
            return self.constant(f"{self.path(node)}@{user}", value)
        held = self.program.state_dict if self.path(node) in self.program.state_dict else self.program.constants
        held[self.path(node)] = value
        node.meta["val"] = self.fake(value)
        return node

    def fake(self, value: torch.Tensor) -> torch.Tensor:
        """A tensor of that shape and type without values."""
        with self._mode:
            return torch.empty_like(value, device="cpu")

    def before(self, node: Node, function: Callable[..., object], *arguments: object, **named: object) -> Node:
        """A new operator in front of `node`, which it belongs to: the same module and line."""
        with self.graph.inserting_before(node):
            new: Node = self.graph.call_function(function, arguments, named)
        for key in ("nn_module_stack", "stack_trace", "source_fn_stack"):
            if key in node.meta:
                new.meta[key] = node.meta[key]
        self.infer(new)
        return new

    def infer(self, node: Node) -> None:
        """Find out again what an operator gives, after its arguments have changed."""
        arguments, named = tree_map_only(Node, lambda each: each.meta["val"], (node.args, node.kwargs))
        with enable_python_dispatcher(), self._mode:  # without it torch fixes flexible sizes of pads and of views
            node.meta["val"] = node.target(*arguments, **named)  # type: ignore[operator]

    def rename_returned(self, old: Node, new: Node) -> None:
        """Say in the signature that `new` is returned where `old` was: after its uses were replaced."""
        for spec in self.signature.output_specs:
            if getattr(spec.arg, "name", None) == old.name:
                spec.arg = TensorArgument(name=new.name)

    def finish(self) -> None:
        """Take out what nothing uses any more, and compile the graph."""
        self.graph.eliminate_dead_code()
        unused = {n for n in self.graph.nodes if n.op == "placeholder" and n.name in self._targets and not n.users}
        names = {node.name for node in unused}
        self.signature.input_specs[:] = [spec for spec in self.signature.input_specs if spec.arg.name not in names]
        for node in unused:
            self.graph.erase_node(node)
            path = self._targets.pop(node.name)
            if path not in self._targets.values() and path not in self._states:
                self.program.state_dict.pop(path, None)
                self.program.constants.pop(path, None)
        self.graph.lint()
        self.program.graph_module.recompile()


def dtype_of(node: object) -> torch.dtype | None:
    """The type of what a node gives, where that is one tensor."""
    value = node.meta.get("val") if isinstance(node, Node) else None
    return value.dtype if isinstance(value, torch.Tensor) else None


def modules_of(node: Node) -> list[str]:
    """The paths of the modules around an operator, the outermost first, as the exported program knows them."""
    stack = node.meta.get("nn_module_stack") or {}
    return [_plain(path) for path, _ in stack.values() if path]


def _plain(path: str) -> str:
    """`model.layers.0` for what torch writes as `L['self'].model.layers.0` or `model.layers.slice(0).0`."""
    return re.sub(r"^L\['self'\]\.?", "", path)
