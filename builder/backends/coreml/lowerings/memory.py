"""Who writes in place into which memory of a TorchScript graph, and whether a conversion would lose that.

coremltools converts `mul_` as `mul`: whoever reads the operator's own output sees the change, and whoever reads the
tensor, its base or another view of it does not. `copy_` and `fill_` it rebuilds from the slices that lead to them,
where those follow the axes one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.backends.coreml.lowerings.views import (
    CHUNK,
    SOMETIMES_COPIES,
    Node,
    Value,
    View,
    all_nodes,
    copies,
    is_view,
    out_of_place,
    plain_name,
    writes_in_place,
    writes_into_last,
)

if TYPE_CHECKING:
    from builder.backends.coreml.lowerings.views import Graph

_OVERWRITES = frozenset({"copy", "fill", "zero"})
"""What they give does not depend on what was there."""
_REBUILT = frozenset({"copy", "fill"})
_ENDLESS = 2**62
"""A position behind all nodes: of the graph's outputs."""


@dataclass(kw_only=True)
class Root:
    """One piece of memory, by the value that it is made as."""

    value: Value
    writes: list[tuple[int, Node]] = field(default_factory=list)
    reads: list[tuple[int, Value]] = field(default_factory=list)
    """Position and value of each."""
    why_unknown: str | None = None
    """Why nobody can say what shares it."""

    @property
    def is_attribute(self) -> bool:
        """Whether it is a buffer of the module: coremltools has its own ways with those that are states."""
        return str(self.value.node().kind()) == "prim::GetAttr"


class Memory:
    """What one graph does in its memory."""

    def __init__(self, graph: Graph, *, typed: bool = False) -> None:
        """With `typed`, as a fresh trace is, an operator that shares memory or not has to say which."""
        self.roots: dict[int, Root] = {}
        self.views: dict[int, View] = {}
        self._same: dict[int, Value] = {}
        self._made_at: dict[int, int] = {}
        self._typed = typed
        nodes = list(graph.nodes())
        if any(writes_in_place(node) or writes_into_last(node) for node in all_nodes(graph)):
            for position, node in enumerate(nodes):
                self._see(node, position, is_inner=False)
            for value in graph.outputs():
                self._read(value, _ENDLESS)

    def canonical(self, value: Value) -> Value:
        """The value that this one is another name of."""
        while value.unique() in self._same:
            value = self._same[value.unique()]
        return value

    def root(self, value: Value) -> Root | None:
        """The memory that a value lies in; None of what is not a tensor."""
        return self.roots.get(self._root_value(value).unique())

    def lost(self) -> list[tuple[Node, str]]:
        """The writes that neither coremltools nor a rewriting keeps, each with what is in the way."""
        found = []
        for root in self.roots.values():
            if root.is_attribute:
                found += [(node, self.describe(node)) for node in self._lost_in_attribute(root)]
            elif root.why_unknown is not None and self._is_lost(root):
                found += [(node, f"{self.describe(node)} ({root.why_unknown})".strip()) for _, node in root.writes]
        return found

    def to_rewrite(self) -> dict[int, Root]:
        """The memory whose writes are to become values, by the number of its value."""
        return {
            number: root
            for number, root in self.roots.items()
            if not root.is_attribute and root.why_unknown is None and self._is_lost(root)
        }

    def describe(self, node: Node) -> str:
        """The views through which an operator writes: `slice of select`, or nothing."""
        names, value = [], self.canonical(list(node.inputs())[-1 if writes_into_last(node) else 0])
        while (view := self.views.get(value.unique())) is not None:
            names.append(view.name)
            value = self.canonical(view.base)
        return " of ".join(names)

    def _root_value(self, value: Value) -> Value:
        value = self.canonical(value)
        while (view := self.views.get(value.unique())) is not None:
            value = self.canonical(view.base)
        return value

    def _root_of(self, value: Value) -> Root:
        value = self._root_value(value)
        return self.roots.setdefault(value.unique(), Root(value=value))

    def _read(self, value: Value, position: int) -> None:
        self._root_of(value).reads.append((position, value))

    def _see(self, node: Node, position: int, *, is_inner: bool) -> None:
        for value in node.outputs():
            self._made_at[value.unique()] = position
        inputs = list(node.inputs())
        kind = str(node.kind())
        if writes_in_place(node):
            root = self._root_of(inputs[0])
            root.writes.append((position, node))
            if is_inner:
                root.why_unknown = "in a branch or loop"
            self._same[next(node.outputs()).unique()] = inputs[0]
            inputs = inputs[1:] if out_of_place(node) in _OVERWRITES else inputs
        elif writes_into_last(node):
            root = self._root_of(inputs[-1])
            root.writes.append((position, node))
            root.why_unknown = "given as `out=`"
        elif is_view(node):
            self._see_view(node, inputs[0])
        elif kind in ("prim::ListUnpack", "prim::TupleUnpack"):
            self._see_unpacking(node)
        elif "->" in node.schema() and "(a" in node.schema().rpartition("->")[2]:
            self._root_of(inputs[0]).why_unknown = f"`{plain_name(node)}` shares its memory"
        held = kind in ("prim::ListConstruct", "prim::TupleConstruct", "prim::DictConstruct")
        for value in inputs:
            self._read(value, position)
            if held:
                self._see_held(value, node)
        for block in node.blocks():
            for inner in block.nodes():
                self._see(inner, position, is_inner=True)
            for value in block.outputs():
                self._root_of(value).why_unknown = "a branch or loop gives it"

    def _see_view(self, node: Node, base: Value) -> None:
        outputs = list(node.outputs())
        if self._typed and plain_name(node) in SOMETIMES_COPIES and copies(node) is None:
            self._root_of(base).why_unknown = f"nobody knows whether `{plain_name(node)}` copies"
        for index, output in enumerate(outputs):
            self.views[output.unique()] = View(node=node, base=base, index=index if str(node.kind()) == CHUNK else None)

    def _see_unpacking(self, node: Node) -> None:
        packed = next(node.inputs())
        view = self.views.pop(packed.unique(), None)
        made = packed.node()
        parts = list(made.inputs()) if str(made.kind()) in ("prim::TupleConstruct", "prim::ListConstruct") else []
        for index, output in enumerate(node.outputs()):
            if view is not None:
                self.views[output.unique()] = View(node=view.node, base=view.base, index=index)
            elif parts:
                self._same[output.unique()] = parts[index]

    def _see_held(self, value: Value, node: Node) -> None:
        """Of a list that is read after a write, what it held before is meant or not: nobody looks into lists."""
        users = [use.user for use in next(node.outputs()).uses()]
        if any(str(user.kind()) in ("aten::append", "prim::Loop", "prim::If") for user in users):
            self._root_of(value).why_unknown = "a list holds it"

    def _is_lost(self, root: Root) -> bool:
        """Whether coremltools alone would read something stale, or refuse."""
        needs_chain = [node for _, node in root.writes if out_of_place(node) in _OVERWRITES]
        if root.writes and len(needs_chain) == len(root.writes) and all(self._is_rebuilt(n) for n in needs_chain):
            return not self._only_root_is_read(root)
        return bool(needs_chain) or self._is_stale(root)

    def _is_stale(self, root: Root) -> bool:
        """Whether something is read that was made before a write, and is not what the write itself gave."""
        return any(
            self._made_at.get(value.unique(), -1) < written < read
            for read, value in root.reads
            for written, _ in root.writes
        )

    def _is_rebuilt(self, node: Node) -> bool:
        """Whether coremltools rebuilds the write: slices and selections that follow the axes from the first on."""
        if out_of_place(node) not in _REBUILT or any(True for _ in next(node.outputs()).uses()):
            return False
        chain, value, fills = [], next(node.inputs()), out_of_place(node) == "fill"
        while (view := self.views.get(value.unique())) is not None:
            if len(value.uses()) != 1:
                return False
            chain.append(view)
            value = view.base
        axis = 0
        for view in reversed(chain):
            if view.name not in ("slice", "select") or view.arguments[0].toIValue() != axis:
                return False
            if fills and any(a.toIValue() is None and str(a.type()) != "NoneType" for a in view.arguments):
                return False  # at a place that the input decides, coremltools copies but does not fill
            axis += view.name == "slice"
        return bool(chain)

    def _only_root_is_read(self, root: Root) -> bool:
        """Whether all that is read after a write is the whole, whose name coremltools follows."""
        return not any(
            self._made_at.get(value.unique(), -1) < written < read and value.unique() != root.value.unique()
            for read, value in root.reads
            for written, _ in root.writes
        )

    def _lost_in_attribute(self, root: Root) -> list[Node]:
        """Writes through views into a buffer that is read later, but those that coremltools rebuilds."""
        last = max((read for read, _ in root.reads), default=-1)
        return [
            node
            for written, node in root.writes
            if self.describe(node) and last > written and not self._follows_axes(node)
        ]

    def _follows_axes(self, node: Node) -> bool:
        return out_of_place(node) in _REBUILT and set(self.describe(node).split(" of ")) <= {"slice", "select"}
