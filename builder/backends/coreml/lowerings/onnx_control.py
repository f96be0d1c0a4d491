"""If and Loop of ONNX. Where a condition is known an If is mostly gone: onnxsim's simplifier writes out the branch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from builder.backends.coreml.lowerings.lowering import Var
from builder.backends.coreml.lowerings.onnx_lowerer import Attributes, Inputs, Node, OnnxLowerer


def _if(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """Both branches, whose outputs must be of one shape; of a condition that is known the one that it chooses."""
    if inputs[0].val is not None:
        chosen = "then_branch" if bool(inputs[0].val) else "else_branch"
        return list(_lowered(lowerer, attributes[chosen]))
    results = lowerer.mb.cond(
        pred=_scalar(lowerer, node, inputs[0]),
        _true_fn=lambda: _lowered(lowerer, attributes["then_branch"]),
        _false_fn=lambda: _lowered(lowerer, attributes["else_branch"]),
        name=lowerer.fresh_name(node),
    )
    return list(results) if isinstance(results, list | tuple) else [results]


def _loop(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """A loop over values that keep their shapes; `while index < trips and condition`.

    Raises RuntimeError where results of all rounds are collected, which needs a size that nobody knows.
    """
    mb, body = lowerer.mb, attributes["body"]
    trips, condition, *values = inputs
    if len(body.output) != 1 + len(values):
        raise RuntimeError("a Loop that collects a result of every round is not converted")
    if trips is not None:
        trips = _scalar(lowerer, node, trips)
    going = mb.const(val=True) if condition is None else _scalar(lowerer, node, condition)

    def goes_on(index: Var, going: Var, *_: Var) -> Var:
        return going if trips is None else mb.logical_and(x=mb.less(x=index, y=trips), y=going)

    def turn(index: Var, going: Var, *values: Var) -> tuple[Any, ...]:
        given = dict(zip((value.name for value in body.input), (index, going, *values), strict=True))
        still, *changed = _lowered(lowerer, body, given)
        return mb.add(x=index, y=1), _scalar(lowerer, node, still), *changed

    first = mb.const(val=0)
    _, _, *last = mb.while_loop(
        _cond=goes_on, _body=turn, loop_vars=(first, going, *values), name=lowerer.fresh_name(node)
    )
    return list(last)


def _lowered(lowerer: OnnxLowerer, graph: Any, given: Mapping[str, Any] | None = None) -> tuple[Any, ...]:
    """The outputs of a graph inside a node, which sees the values around it."""
    import onnx

    around = dict(lowerer._values)
    try:
        for name, value in (given or {}).items():
            lowerer.bind(name, value)
        for tensor in graph.initializer:
            lowerer.bind(tensor.name, lowerer.make_const(tensor.name, onnx.numpy_helper.to_array(tensor)))
        for node in graph.node:
            lowerer.lower_node(node)
        # A block must not give what was made outside of it.
        return tuple(lowerer.mb.identity(x=lowerer.get(output.name)) for output in graph.output)
    finally:
        lowerer._values = around


def _scalar(lowerer: OnnxLowerer, node: Node, value: Var) -> Var:
    """A value of rank 0, of one that ONNX may give as an array of one element."""
    return value if value.rank == 0 else lowerer.mb.squeeze(x=value, name=lowerer.fresh_name(node, "scalar"))


CONTROL: Mapping[str, Callable[..., list[Var]]] = {"If": _if, "Loop": _loop}
"""By ONNX's name."""
