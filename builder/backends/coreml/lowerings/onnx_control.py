"""If and Loop of ONNX. Where a condition is known an If is mostly gone: onnxsim's simplifier writes out the branch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from builder.backends.coreml.lowerings.lowering import Var
from builder.backends.coreml.lowerings.onnx_lowerer import Attributes, Inputs, Node, OnnxLowerer
from builder.backends.coreml.lowerings.variables import fixed_size, slice_axis

if TYPE_CHECKING:
    from onnx import GraphProto


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

    Where results of all rounds are collected, it is written out, which takes a constant number of them.
    """
    mb, body = lowerer.mb, attributes["body"]
    trips, condition, *values = inputs
    if len(body.output) != 1 + len(values):
        return _written_out_loop(lowerer, body, trips, condition, values)
    if trips is not None:
        trips = _scalar(lowerer, node, trips)
    going = mb.const(val=True) if condition is None else _scalar(lowerer, node, condition)

    def goes_on(index: Var, going: Var, *_: Var) -> Var:
        return going if trips is None else mb.logical_and(x=mb.less(x=index, y=trips), y=going)

    def turn(index: Var, going: Var, *values: Var) -> tuple[Var, ...]:
        given = dict(zip((value.name for value in body.input), (index, going, *values), strict=True))
        still, *changed = _lowered(lowerer, body, given)
        return mb.add(x=index, y=1), _scalar(lowerer, node, still), *changed

    first = mb.const(val=0)
    _, _, *last = mb.while_loop(
        _cond=goes_on, _body=turn, loop_vars=(first, going, *values), name=lowerer.fresh_name(node)
    )
    return list(last)


_MOST_ROUNDS = 256
"""Rounds that are written one after the other; more make a program that takes minutes to convert."""


def _written_out_loop(lowerer: OnnxLowerer, body: GraphProto, trips: Var, condition: Var, values: Inputs) -> list[Var]:
    """A loop whose number of rounds follows from constants, one after the other; what it collects is stacked.

    The number is given, or the condition ends it, as of a counter that is below a size (`while` of Keras).
    """
    rounds = _constant_rounds(trips, condition)
    mb, current = lowerer.mb, list(values)
    collected: list[list[Var]] = [[] for _ in range(len(body.output) - 1 - len(values))]
    for index in range(rounds):
        if index == _MOST_ROUNDS:
            raise RuntimeError(f"a Loop whose condition holds for more than {_MOST_ROUNDS} rounds is not converted")
        given = [mb.const(val=index), mb.const(val=True), *current]
        still, *results = _lowered(lowerer, body, dict(zip((v.name for v in body.input), given, strict=True)))
        if still.val is None:
            raise RuntimeError("a Loop that collects a result of every round and ends by a value is not converted")
        current = results[: len(values)]
        for kept, result in zip(collected, results[len(values) :], strict=True):
            kept.append(result)
        if not bool(still.val):
            break
    return [*current, *(mb.stack(values=kept, axis=0) for kept in collected)]


_ENDLESS = 2**31 - 1
"""A number of rounds from which on it is a way to say that there is none."""


def _constant_rounds(trips: Var | None, condition: Var | None) -> int:
    """How many rounds there are, or one more than are written out where the condition alone ends them."""
    unlimited = trips is None or (trips.val is not None and int(trips.val) >= _ENDLESS)
    known = all(given is None or given.val is not None for given in (trips, condition))
    if not known or (unlimited and condition is None):
        raise RuntimeError("a Loop that collects a result of every round needs a constant number of them")
    begins = condition is None or bool(condition.val)
    if unlimited and begins:
        return _MOST_ROUNDS + 1
    rounds = int(trips.val) if trips is not None and begins else 0
    _check_rounds(rounds, "Loop")
    return rounds


def _check_rounds(rounds: int, operator: str) -> None:
    if not 0 < rounds <= _MOST_ROUNDS:
        raise RuntimeError(f"a {operator} of {rounds} rounds is not converted: 1 to {_MOST_ROUNDS} are")


def _scan(lowerer: OnnxLowerer, _: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """States carried along the entries of arrays, one round for each entry; what is collected is stacked.

    Opset 8 has another first input and a batch; it is refused.
    """
    if lowerer.opset < 9:
        raise RuntimeError("Scan is converted from opset 9 on")
    mb, body, count = lowerer.mb, attributes["body"], int(attributes["num_scan_inputs"])
    states, arrays = list(inputs[: len(inputs) - count]), inputs[len(inputs) - count :]
    outputs = len(body.output) - len(states)
    axes, ways = (_for_each(attributes, name, count) for name in ("scan_input_axes", "scan_input_directions"))
    axes = [axis % x.rank for axis, x in zip(axes, arrays, strict=True)]
    rounds = fixed_size(arrays[0], axes[0], "Scan")
    _check_rounds(rounds, "Scan")
    collected: list[list[Var]] = [[] for _ in range(outputs)]
    for index in range(rounds):
        entries = []
        for x, axis, backwards in zip(arrays, axes, ways, strict=True):
            at = rounds - 1 - index if backwards else index
            entries.append(mb.squeeze(x=slice_axis(mb, x, axis, at, at + 1), axes=[axis]))
        given = dict(zip((value.name for value in body.input), [*states, *entries], strict=True))
        results = list(_lowered(lowerer, body, given))
        states = results[: len(states)]
        for kept, result in zip(collected, results[len(states) :], strict=True):
            kept.append(result)
    axes, ways = (_for_each(attributes, name, outputs) for name in ("scan_output_axes", "scan_output_directions"))
    stacks = [
        mb.stack(values=kept[::-1] if backwards else kept, axis=axis % (kept[0].rank + 1))
        for kept, axis, backwards in zip(collected, axes, ways, strict=True)
    ]
    return [*states, *stacks]


def _for_each(attributes: Attributes, name: str, count: int) -> list[int]:
    return [int(value) for value in attributes.get(name) or [0] * count]


def _lowered(lowerer: OnnxLowerer, graph: GraphProto, given: Mapping[str, Var] | None = None) -> tuple[Var, ...]:
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


CONTROL: Mapping[str, Callable[..., list[Var]]] = {"If": _if, "Loop": _loop, "Scan": _scan}
"""By ONNX's name."""
