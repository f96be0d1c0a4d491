"""Views in a TorchScript graph: which values share memory, and how what is written to a view gets back to its base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Value = Any
"""`torch._C.Value`."""
Node = Any
"""`torch._C.Node`."""
Graph = Any
"""`torch._C.Graph`, or a block of one."""
Make = Callable[..., Value]
"""Takes an operator's name and its inputs (values, or numbers and lists of values) and gives its output."""

_SAME = frozenset(
    {
        *("alias", "detach", "contiguous", "to", "type_as", "dropout", "feature_dropout", "positive"),
        *("resolve_conj", "resolve_neg"),
    }
)
"""Give their input itself, or a copy of it."""
_SAME_ORDER = frozenset(
    {
        *("view", "reshape", "view_as", "reshape_as", "flatten", "unflatten", "ravel", "squeeze", "unsqueeze"),
        *("expand", "expand_as", "broadcast_to", "atleast_1d", "atleast_2d", "atleast_3d", "_unsafe_view"),
    }
)
"""Give the elements in another shape. A write through an expansion, which torch refuses, is one of nothing expanded."""
_SELF_INVERSE = frozenset({"transpose", "swapaxes", "swapdims", "t", "numpy_T", "mT", "mH", "adjoint"})
CHUNK = "prim::ConstantChunk"
"""What coremltools' own simplification makes of `chunk`: it gives the parts themselves, and no list."""
_PARTS = frozenset({"chunk", "split", "split_with_sizes", "unbind", "tensor_split", "ConstantChunk"})
"""Give several views."""
_OTHERS = frozenset({"slice", "select", "narrow", "permute", "movedim", "moveaxis", "diagonal", "real", "imag"})
_INVERSE = {"view_as_real": "view_as_complex", "view_as_complex": "view_as_real"}
VIEWS = _SAME | _SAME_ORDER | _SELF_INVERSE | _PARTS | _OTHERS | _INVERSE.keys()

SOMETIMES_COPIES = frozenset({"reshape", "reshape_as", "flatten", "ravel", "contiguous", "to", "type_as"})
"""Share memory where they can."""
_AS_VIEWS = frozenset({"unsqueeze_", "squeeze_", "transpose_", "swapaxes_", "swapdims_", "t_", "detach_"})
"""In-place operators that write nothing: only the shape by which the memory is seen changes."""


@dataclass(frozen=True, kw_only=True)
class View:
    """How a value shares the memory of another."""

    node: Node
    base: Value
    index: int | None = None
    """Which of the list that the operator gives; None where it gives one tensor."""

    @property
    def name(self) -> str:
        """The operator, as the out-of-place form is written."""
        return plain_name(self.node).removesuffix("_")

    @property
    def arguments(self) -> list[Value]:
        """What it takes behind the base."""
        return list(self.node.inputs())[1:]


def plain_name(node: Node) -> str:
    """The name of an operator without its namespace."""
    return str(node.kind()).partition("::")[2]


def is_view(node: Node) -> bool:
    """Whether the operator gives a view, or a list of views, of its first input."""
    name = plain_name(node)
    if str(node.kind()) == CHUNK:
        return True
    if str(node.kind()).partition("::")[0] != "aten" or (name not in VIEWS and name not in _AS_VIEWS):
        return False
    if name in ("dropout", "feature_dropout"):
        return list(node.inputs())[2].toIValue() is False  # a copy where it trains
    return not (name == "view" and isinstance(list(node.inputs())[1].toIValue(), int))  # of the bits as another dtype


def writes_in_place(node: Node) -> bool:
    """Whether the operator writes into its first input."""
    namespace, _, name = str(node.kind()).partition("::")
    if namespace != "aten" or name in _AS_VIEWS:
        return False
    return (name.endswith("_") and not name.endswith("__")) or (name.startswith("__i") and name[3:] in _OPERATORS)


def writes_into_last(node: Node) -> bool:
    """Whether the operator writes into a tensor that it was given as `out=`."""
    return str(node.kind()).startswith("aten::") and not writes_in_place(node) and "(a!) out)" in node.schema()


_OPERATORS = frozenset({"and__", "or__", "xor__", "lshift__", "rshift__", "add__", "sub__", "mul__"})


def out_of_place(node: Node) -> str:
    """The name of the operator that gives what this one writes: `mul` of `mul_`, `__or__` of `__ior__`."""
    name = plain_name(node)
    return f"__{name[3:]}" if name.startswith("__i") else name.removesuffix("_")


def copies(node: Node) -> bool | None:
    """Whether one of `SOMETIMES_COPIES` gave a copy; None where the trace does not know."""
    given, gives = next(node.inputs()), next(node.outputs())
    facts = [(v.type().dtype(), v.type().sizes(), v.type().strides()) for v in (given, gives) if _has_type(v)]
    if len(facts) < 2:
        return None
    (dtype, sizes, strides), (new_dtype, new_sizes, new_strides) = facts
    name = plain_name(node)
    if dtype != new_dtype or (name == "to" and list(node.inputs())[-2].toIValue() is True):
        return True
    if name in ("contiguous", "to", "type_as"):
        return [step for step, size in zip(strides, sizes, strict=True) if size > 1] != [
            step for step, size in zip(new_strides, sizes, strict=True) if size > 1
        ]
    return not torch.empty_strided(sizes, strides, dtype=dtype, device="meta").reshape(new_sizes)._is_view()


def _has_type(value: Value) -> bool:
    kind = value.type()
    return isinstance(kind, torch._C.TensorType) and None not in (kind.dtype(), kind.sizes(), kind.strides())


def written_back(view: View, base: Value, new: Value, make: Make, parts: Callable[[], Sequence[Value]]) -> Value:
    """The base after `new` was written into one of its views; `parts` gives all views where there is a list of them.

    Raises NotImplementedError where there is no way back.
    """
    name, arguments = view.name, view.arguments
    if name in _SAME:
        return new
    if name in _SAME_ORDER:
        return make("reshape", new, make("size", base))
    if name in _SELF_INVERSE:
        return make(name, new, *arguments)
    if name in _INVERSE:
        return make(_INVERSE[name], new)
    if name in ("real", "imag"):
        return make("complex", *((new, make("imag", base)) if name == "real" else (make("real", base), new)))
    if (part := slice_of_part(view)) is not None:
        name, axis, *places = part
        return make(f"{name}_scatter", base, new, axis, *places)
    if name in _PARTS:
        joined = [new if i == view.index else part for i, part in enumerate(parts())]
        return make("cat", joined, _axis_of_parts(view))
    if name in ("movedim", "moveaxis"):
        return make(name, new, arguments[1], arguments[0])
    if name == "permute":
        order = constants(arguments[0])
        if order is None:
            raise NotImplementedError("permute by axes that the input decides")
        rank = len(order)
        return make("permute", new, [[axis % rank for axis in order].index(axis) for axis in range(rank)])
    if name == "narrow":
        axis, start, length = arguments
        known = [value.toIValue() for value in (start, length)]
        if not all(isinstance(number, int) for number in known):
            raise NotImplementedError("narrow from a place that the input decides")
        end = sum(known) if known[0] >= 0 or sum(known) else 2**63 - 1
        return make("slice_scatter", base, new, axis, start, end, 1)
    return make(f"{name}_scatter", base, new, *arguments)


def slice_of_part(view: View) -> list[Any] | None:
    """The operator that gives one part alone, with its numbers; None where that takes the size of the whole."""
    if view.index is None or view.name not in ("unbind", "split", "split_with_sizes"):
        return None
    axis = _axis_of_parts(view)
    if view.name == "unbind":
        return ["select", axis, view.index]
    size = view.arguments[0].toIValue()
    if isinstance(size, int):
        return ["slice", axis, view.index * size, (view.index + 1) * size, 1]
    sizes = constants(view.arguments[0])
    return None if sizes is None else ["slice", axis, sum(sizes[: view.index]), sum(sizes[: view.index + 1]), 1]


def _axis_of_parts(view: View) -> int:
    """Along which axis the views lie side by side. Raises NotImplementedError where the input decides that."""
    if view.name == "ConstantChunk":
        return int(view.node.i("dim"))
    axis = view.arguments[0 if view.name == "unbind" else 1].toIValue()
    if not isinstance(axis, int):
        raise NotImplementedError(f"{view.name} along an axis that the input decides")
    return axis


def is_whole(view: View) -> bool:
    """Whether a slice leaves nothing out, as `x[:, 1]` has one of its first axis."""
    if view.name != "slice":
        return False
    start, end, step = view.arguments[1:4]
    from_start = str(start.type()) == "NoneType" or start.toIValue() == 0
    to_end = str(end.type()) == "NoneType" or end.toIValue() == 2**63 - 1
    return bool(from_start and to_end and step.toIValue() == 1)


def constants(value: Value) -> list[int] | None:
    """The numbers of a list, None where one of them is not constant."""
    known = value.toIValue()
    if known is None and str(value.node().kind()) == "prim::ListConstruct":
        known = [entry.toIValue() for entry in value.node().inputs()]
    if known is None or not all(isinstance(number, int) for number in known):
        return None
    return list(known)


def all_nodes(block: Graph) -> Iterator[Node]:
    """The nodes of a graph or block in their order, those of inner blocks behind the node that holds them."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from all_nodes(inner)
