"""Half precision as a rewrite: which operators compute in it, casts where types meet, constants stored in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import ops
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import Node
from torch.utils._pytree import tree_map_only

from builder.backends.coreai.passes.edit import Edit, dtype_of

MASKED = 3e4
"""What stands for numbers beyond 1e38 that make masks: its exponential is 0, and twice of it fits half precision."""
_BEYOND = 1e38
_FLOATS = (torch.float32, torch.float64)
_MAKES = "dtype"
_CASTS = (ops.aten._to_copy.default, ops.aten.to.dtype)
_MAKES_MASKS = (
    ops.aten.add.Scalar,
    ops.aten.add.Tensor,
    ops.aten.full.default,
    ops.aten.full_like.default,
    ops.aten.mul.Scalar,
    ops.aten.mul.Tensor,
    ops.aten.scalar_tensor.default,
    ops.aten.sub.Scalar,
    ops.aten.sub.Tensor,
)
"""Operators whose numbers make masks; a limit (clamp) stays what it is."""

_ATTENDS = (ops.aten._softmax, ops.aten._safe_softmax, ops.aten.softmax, ops.aten.scaled_dot_product_attention)

Types = Mapping[str, torch.dtype]
"""By name of an input, output or state: the type that the artifact declares."""


def declare_types(edit: Edit, inputs: Types, outputs: Types, states: Types, selects: Callable[[Node], bool]) -> int:
    """Let each operator that `selects` names compute in float16, and inputs, outputs and states have their types.

    `inputs` is by placeholder, `outputs` by the node that is returned at that place (`0`, `1`, …), `states` by the path
    of the buffer. Returns how many operators compute in half precision.
    """
    work = _Casting(edit)
    for node in list(edit.graph.nodes):
        if node.op == "placeholder":
            _declare(edit, node, inputs, states)
        elif node.op == "call_function":
            work.retype(node, torch.float16 if selects(node) else torch.float32)
        elif node.op == "output":
            _return(work, node, outputs, states)
    edit.finish()
    return work.halved


class _Casting:
    """Casts between types, each made once."""

    def __init__(self, edit: Edit) -> None:
        self._edit = edit
        self._made: dict[tuple[Node, torch.dtype], Node] = {}
        self.halved = 0

    def to(self, value: Node, dtype: torch.dtype, user: Node) -> Node:
        """`value` in that type: as it is, a constant that is stored so, or cast."""
        if dtype_of(value) == dtype:
            return value
        if (value, dtype) not in self._made:
            held = self._edit.value(value)
            if held is not None:
                kind = str(dtype).removeprefix("torch.")
                stored = _stored(held, dtype, attended=_is_attended(value))
                made = self._edit.constant(f"{self._edit.path(value)}@{kind}", stored)
            else:
                made = self._edit.before(user, ops.aten._to_copy.default, value, dtype=dtype)
            self._made[value, dtype] = made
        return self._made[value, dtype]

    def retype(self, node: Node, dtype: torch.dtype) -> None:
        """Let an operator compute in `dtype` where it computes in floats at all."""
        if not isinstance(node.target, torch._ops.OpOverload):
            if not node.name.startswith("getitem"):
                self._plain(node)
            else:
                self._edit.infer(node)
            return
        if (made := dtype_of(node)) is not None and made.is_complex:
            dtype = torch.float32  # of parts in half precision Core AI makes no complex number
        declared = node.kwargs.get(_MAKES)
        if declared in _FLOATS:
            node.kwargs = {**node.kwargs, _MAKES: dtype}
        if node.target not in _CASTS:  # a cast takes what it is given
            node.args, node.kwargs = tree_map_only(
                Node, lambda each: self._fitting(each, dtype, node), (node.args, node.kwargs)
            )
        if dtype is torch.float16 and node.target in _MAKES_MASKS:
            attended = any(map(_is_infinite, node.args)) and _is_attended(node)
            node.args = tuple(each if _is_infinite(each) and not attended else _finite(each) for each in node.args)
        before = dtype_of(node)
        self._edit.infer(node)
        self.halved += dtype_of(node) is torch.float16 and before in _FLOATS

    def _fitting(self, value: Node, dtype: torch.dtype, node: Node) -> Node:
        found = dtype_of(value)
        is_float = found in (torch.float16, *_FLOATS)
        return self.to(value, dtype, node) if is_float else value

    def _plain(self, node: Node) -> None:
        """What is not an operator of torch's, such as sizes and branches, keeps to float32."""
        back = lambda each: self.to(each, torch.float32, node) if dtype_of(each) is torch.float16 else each  # noqa: E731
        node.args, node.kwargs = tree_map_only(Node, back, (node.args, node.kwargs))


def _is_attended(node: Node) -> bool:
    """Whether a softmax follows, of which a row of nothing but -inf would be NaN, where attention gives zeros."""
    seen, todo = {node}, [node]
    while todo:
        for user in todo.pop().users:
            if getattr(user.target, "overloadpacket", None) in _ATTENDS:
                return True
            if user not in seen:
                seen.add(user)
                todo.append(user)
    return False


def _is_infinite(value: object) -> bool:
    return isinstance(value, float) and math.isinf(value)


def _stored(value: torch.Tensor, dtype: torch.dtype, *, attended: bool) -> torch.Tensor:
    """A constant in another type; what masks stays finite, and infinity is that where no softmax follows."""
    if dtype is torch.float16 and value.is_floating_point():
        beyond = value.abs() >= _BEYOND if attended else (value.abs() >= _BEYOND) & value.isfinite()
        value = torch.where(beyond, value.sign() * MASKED, value)
    return value.to(dtype)


def _finite(value: Any) -> Any:
    return (MASKED if value > 0 else -MASKED) if isinstance(value, float) and abs(value) >= _BEYOND else value


def _declare(edit: Edit, node: Node, inputs: Types, states: Types) -> None:
    """Give an input or state the type that the artifact declares, and a cast behind it to what the model takes."""
    (spec,) = (spec for spec in edit.signature.input_specs if spec.arg.name == node.name)
    wanted = inputs.get(node.name) if spec.kind is InputKind.USER_INPUT else states.get(spec.target or "")
    taken = dtype_of(node)
    if wanted is None or taken is wanted or taken is None:
        return
    node.meta["val"] = node.meta["val"].to(wanted)
    held = edit.program.state_dict if spec.target in edit.program.state_dict else edit.program.constants
    if spec.target in held:
        held[spec.target] = held[spec.target].to(wanted)
    (behind, *_) = (each for each in edit.graph.nodes if each.op != "placeholder")
    cast = edit.before(behind, ops.aten._to_copy.default, node, dtype=taken)
    node.replace_all_uses_with(cast, delete_user_cb=lambda user: user is not cast)
    edit.rename_returned(node, cast)


def _levels(edit: Edit, node: Node, value: object) -> Node:
    """Levels of a picture as Core ML makes them of what the model gives: rounded, and within those of a byte."""
    rounded = edit.before(node, ops.aten.round.default, value)
    return edit.before(node, ops.aten.clamp.default, rounded, 0, 255)


def _return(work: _Casting, node: Node, outputs: Types, states: Types) -> None:
    """Give what is returned, and what is written into states, its declared type."""
    returned, place = [], 0
    for value, spec in zip(node.args[0], work._edit.signature.output_specs, strict=True):  # type: ignore[arg-type]
        if spec.kind is OutputKind.USER_OUTPUT:
            wanted = outputs.get(str(place))
            place += 1
        else:
            wanted = states.get(spec.target or "")
        if wanted is torch.uint8 and (found := dtype_of(value)) is not None and found.is_floating_point:
            value = _levels(work._edit, node, value)
        new = work.to(value, wanted, node) if wanted is not None and isinstance(value, Node) else value
        if isinstance(new, Node):
            spec.arg = type(spec.arg)(name=new.name)
        returned.append(new)
    node.args = (tuple(returned),)
