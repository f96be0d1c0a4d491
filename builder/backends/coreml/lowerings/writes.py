"""Writes in place as values: a TorchScript graph in which nobody depends on shared memory any more.

Given:   %v = slice(%x, 1, 0, 2, 1);  %w = mul_(%v, 3);  %y = relu(%x)
Result:  %v = slice(%x, 1, 0, 2, 1);  %w = mul(%v, 3);  %x2 = slice_scatter(%x, %w, 1, 0, 2, 1);  %y = relu(%x2)

What coremltools keeps by itself stays as it is (`builder.backends.coreml.lowerings.memory`), and so do buffers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from builder.artifacts.stages import UsedLowering
from builder.backends.coreml.lowerings.memory import Memory
from builder.backends.coreml.lowerings.views import (
    CHUNK,
    SOMETIMES_COPIES,
    Make,
    Node,
    Value,
    View,
    all_nodes,
    constants,
    copies,
    is_view,
    is_whole,
    out_of_place,
    plain_name,
    slice_of_part,
    writes_in_place,
    written_back,
)

if TYPE_CHECKING:
    from builder.backends.coreml.lowerings.views import Graph


@contextmanager
def functional_writes() -> Iterator[Counter[str]]:
    """Let coremltools see graphs without the writes that it would lose; yields how often each operator was one."""
    from coremltools.converters.mil.frontend.torch import internal_graph

    expand = internal_graph._expand_and_optimize_ir
    rewritten: Counter[str] = Counter()

    def expand_and_rewrite(torchscript: object) -> tuple[object, ...]:
        graph, *rest = expand(torchscript)
        rewritten.update(rewrite_writes(graph))
        return graph, *rest

    internal_graph._expand_and_optimize_ir = expand_and_rewrite
    try:
        yield rewritten
    finally:
        internal_graph._expand_and_optimize_ir = expand


def uses_of_writes(rewritten: Mapping[str, int]) -> tuple[UsedLowering, ...]:
    """What the record keeps of them."""
    why = "coremltools' own loses what is written into memory that is read by another name"
    return tuple(UsedLowering(operator=name, why=why, times=rewritten[name]) for name in sorted(rewritten))


def rewrite_writes(graph: Graph) -> list[str]:
    """Rewrite the writes of an inlined graph that a conversion would lose; return their operators, in order."""
    memory = Memory(graph)
    return _Rewriting(graph, memory).run() if memory.to_rewrite() else []


def mark_copies(traced: Any) -> None:
    """Show in a fresh trace that is to be rewritten which operators copied: `reshape` may, and only a trace knows.

    Given:   %y = reshape(%x, [6]), where x is not contiguous
    Result:  %y' = reshape(%x, [6]);  %y = clone(%y')
    """
    if not Memory(traced.inlined_graph).to_rewrite():
        return
    for part in traced.modules():
        graph = part.graph if part._c._has_method("forward") else None
        for node in list(all_nodes(graph)) if graph is not None else ():
            if plain_name(node) in SOMETIMES_COPIES and is_view(node) and copies(node):
                make = _maker(graph, node, after=True)
                output = next(node.outputs())
                clone = make("clone", output, None)
                clone.setTypeAs(output)
                output.replaceAllUsesAfterNodeWith(clone.node(), clone)


def _maker(graph: Graph, at: Node, *, after: bool = False) -> Make:
    """Makes operators before a node, or after it, which are of its module and line."""
    last = [at]

    def insert(node: Node) -> Node:
        node.copyMetadata(at)
        if after:
            last.append(node.insertAfter(last[-1]))
            return last[-1]
        return node.insertBefore(at)

    def value(given: object) -> Value:
        if isinstance(given, list):
            items = insert(graph.create("prim::ListConstruct", [value(item) for item in given], 1)).output()
            whole = bool(given) and isinstance(given[0], int)
            items.setType(torch._C.ListType.ofInts() if whole else torch._C.ListType.ofTensors())
            return items
        if not isinstance(given, int | float | bool | None):
            return given
        constant = insert(graph.create("prim::Constant", [], 1))
        if given is None:
            constant.output().setType(torch._C.NoneType.get())
        else:
            constant.i_("value", given)
            constant.output().setType(torch._C.IntType.get())
        return constant.output()

    def make(name: str, *inputs: object) -> Value:
        made = insert(graph.create(f"aten::{name}", [value(given) for given in inputs], 1)).output()
        if name == "size":
            made.setType(torch._C.ListType.ofInts())
        return made

    return make


class _Rewriting:
    """One graph on its way: which value now holds what another one held before it was written to."""

    def __init__(self, graph: Graph, memory: Memory) -> None:
        self._graph, self._memory = graph, memory
        self._roots = memory.to_rewrite()
        self._version = dict.fromkeys(self._roots, 0)
        """By root: how many writes there were."""
        self._now: dict[int, tuple[int, Value]] = {}
        """By value: what holds it, since which version."""
        self._bases: dict[int, View] = {}

    def run(self) -> list[str]:
        rewritten, gone = [], []
        for node in list(self._graph.nodes()):
            root = self._memory.root(next(node.inputs())) if writes_in_place(node) else None
            if root is not None and root.value.unique() in self._roots:
                rewritten.append(plain_name(node))
                self._write(node)
                gone.append(node)
                continue
            self._read_anew(node)
            for value in node.outputs():
                if value.unique() in self._memory.views:
                    self._note(value, value)
        result = self._graph.return_node()
        self._read_anew(result)
        for node in reversed(gone):
            node.destroy()
        return rewritten

    def _root_number(self, value: Value) -> int | None:
        """The root of a value that is rewritten."""
        root = self._memory.root(value)
        number = None if root is None else root.value.unique()
        return number if number in self._roots else None

    def _note(self, value: Value, held_by: Value) -> None:
        number = self._root_number(value)
        if number is not None:
            self._now[self._memory.canonical(value).unique()] = (self._version[number], held_by)

    def _read_anew(self, node: Node) -> None:
        """Let a node, and those in its blocks, take values as they are now."""
        for inner in [node, *(n for block in node.blocks() for n in all_nodes(block))]:
            for index, value in enumerate(list(inner.inputs())):
                now = self._current(value, node)
                if now.unique() != value.unique():
                    inner.replaceInput(index, now)

    def _current(self, value: Value, before: Node) -> Value:
        """What a value is now: itself, or its view taken anew of what its base is now."""
        number = self._root_number(value)
        if number is None or self._version[number] == 0:
            return value
        value = self._memory.canonical(value)
        version, held = self._now.get(value.unique(), (0, value))
        if version == self._version[number]:
            return held
        view = self._memory.views[value.unique()]
        held = self._taken_anew(view, self._current(view.base, before), before)
        self._note(value, held)
        return held

    def _taken_anew(self, view: View, base: Value, before: Node) -> Value:
        if (part := slice_of_part(view)) is not None:
            name, *places = part
            return _maker(self._graph, before)(name, base, *places)
        return self._all_taken_anew(view, base, before)[view.index or 0]

    def _all_taken_anew(self, view: View, base: Value, before: Node) -> list[Value]:
        arguments = [self._current(value, before) for value in view.arguments]
        if str(view.node.kind()) == CHUNK:
            again = self._graph.create(CHUNK, [base], view.node.outputsSize())
            again.copyAttributes(view.node)
            again.copyMetadata(view.node)
            return list(again.insertBefore(before).outputs())
        again = self._graph.create(f"aten::{view.name}", [base, *arguments], 1)
        again.copyMetadata(view.node)
        again.insertBefore(before)
        original = next(view.node.outputs())
        again.output().setType(original.type())
        if view.index is None:
            return [again.output()]
        (unpacking,) = (use.user for use in original.uses() if str(use.user.kind()) == "prim::ListUnpack")
        unpacked = self._graph.create("prim::ListUnpack", [again.output()], unpacking.outputsSize())
        unpacked.copyMetadata(view.node)
        unpacked.insertBefore(before)
        return list(unpacked.outputs())

    def _write(self, node: Node) -> None:
        make = _maker(self._graph, node)
        inputs = list(node.inputs())
        target = self._memory.canonical(inputs[0])
        name = out_of_place(node)
        if name == "copy" and self._is_same_place(target, self._memory.canonical(inputs[1])):
            return  # `x[0] += 1` writes twice: into the view, and then the view into itself
        new = make(name, *(self._current(value, node) for value in inputs))
        made = [(target, new)]
        while (view := self._memory.views.get(target.unique())) is not None:
            base = self._current(view.base, node)
            if not is_whole(view):
                new = written_back(view, base, new, make, partial(self._all_taken_anew, view, base, node))
            target = self._memory.canonical(view.base)
            made.append((target, new))
        self._version[target.unique()] += 1
        for value, held in made:
            held.setType(torch._C.TensorType.get())
            self._note(value, held)

    def _is_same_place(self, one: Value, other: Value) -> bool:
        return one.unique() == other.unique() or self._place(one) == self._place(other)

    def _place(self, value: Value) -> list[object]:
        """How one gets to a value: its root, and the views from it."""
        views = []
        value = self._memory.canonical(value)
        while (view := self._memory.views.get(value.unique())) is not None:
            if not is_whole(view):
                views.append((view.name, view.index, [_known(argument) for argument in view.arguments]))
            value = self._memory.canonical(view.base)
        return [value.unique(), views]


def _known(value: Value) -> object:
    """A constant as what it is, anything else by its number."""
    known = value.toIValue() if str(value.type()) != "NoneType" else "none"
    if known is None:
        known = constants(value)
    return known if known is not None else ("number", value.unique())
