"""Joins operations into those that torch has fast kernels for. Only the plan without intermediates is made of them.

Given     conv2d(pad(x, p, 0), w) + b      linear: x @ transpose(w) + b      minimum(maximum(x, a), b)
Result    conv(x, w, bias=b, pad=p)        linear(x, w, bias=b)              clip(x, a, b)

A value that something else reads is left as it is. In half precision a joined operation is rounded once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from coreml_runtime.ops import conv as convolution
from coreml_runtime.ops import elementwise_unary, linear
from coreml_runtime.ops.context import TensorType
from coreml_runtime.ops.table import Kernel, merge, table
from coreml_runtime.program import Argument, Block, Constant, Function, Operation, Reference

KERNELS: dict[str, Kernel] = merge(table(convolution.conv, linear.linear, elementwise_unary.clip))
"""What joined operations are computed by: kernels of MIL."""

_TEXT = TensorType(dtype="string", shape=())


def fuse(function: Function) -> Function:
    """The function with joined operations; the same object if there are none."""
    block = _fuse(function.block)
    return function if block is function.block else replace(function, block=block)


def _fuse(block: Block) -> Block:
    operations = tuple(_with_fused_blocks(each) for each in block.operations)
    graph = _Graph(block=replace(block, operations=operations))
    for operation in operations:
        for rule in _RULES.get(operation.type, ()):
            joined = rule(graph, operation)
            if joined is not None:
                graph.put(operation, joined)
                break
    if not graph.changed and operations == block.operations:
        return block
    return replace(block, operations=tuple(graph.remaining()))


def _with_fused_blocks(operation: Operation) -> Operation:
    blocks = tuple(_fuse(each) for each in operation.blocks)
    return operation if blocks == operation.blocks else replace(operation, blocks=blocks)


@dataclass(kw_only=True)
class _Graph:
    """Who makes and who reads each value of a block."""

    block: Block
    made: dict[str, Operation] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)
    changed: bool = False

    def __post_init__(self) -> None:
        """Count; what nested blocks and the block's end read counts too."""
        self.uses.update(_read(self.block))
        for operation in self.block.operations:
            for entry in operation.outputs:
                self.made[entry.name] = operation

    def maker(self, argument: Argument, type_: str) -> Operation | None:
        """The operation that makes an argument, if it is of a type and nothing else reads its value."""
        name = _name(argument)
        found = self.made.get(name)
        if found is None or found.type != type_ or self.uses[name] != 1:
            return None
        return found

    def constant(self, argument: Argument) -> Constant | None:
        """The constant that an argument is."""
        found = self.made.get(_name(argument))
        if found is None or found.type != "const":
            return None
        value = found.inputs["val"][0]
        return value if isinstance(value, Constant) else None

    def type(self, argument: Argument) -> TensorType | None:
        """The declared type of an argument that the block makes."""
        found = self.made.get(_name(argument))
        for entry in found.outputs if found else ():
            if entry.name == _name(argument) and isinstance(entry.type, TensorType):
                return entry.type
        return None

    def put(self, old: Operation, new: Operation) -> None:
        """Replace an operation; what only it read is no longer read."""
        self.changed = True
        self.uses.subtract(_mentioned(old))
        self.uses.update(_mentioned(new))
        for entry in new.outputs:
            self.made[entry.name] = new

    def remaining(self) -> Iterator[Operation]:
        """The operations that are still read, in their order."""
        dropped: set[str] = set()
        kept = []
        for operation in reversed(self.block.operations):
            current = self.made[operation.outputs[0].name] if operation.outputs else operation
            names = [entry.name for entry in current.outputs]
            if (
                names
                and current.type != "const"
                and current.type in _FREE
                and not any(self.uses[name] for name in names)
            ):
                self.uses.subtract(_mentioned(current))
                dropped.update(names)
                continue
            kept.append(current)
        return reversed(kept)


_FREE = frozenset({"pad", "conv2d", "conv", "add", "transpose", "batch_matmul", "linear", "maximum"})
"""Operations that may go when nobody reads them."""


def _join_conv(graph: _Graph, operation: Operation) -> Operation | None:
    """The `conv2d` as `conv`, with the padding of its input where that is zeros around the picture."""
    inputs: dict[str, Argument] = {
        "x": operation.inputs["x"], "weight": operation.inputs["weight"], "strides": operation.inputs["stride"],
        "dilations": operation.inputs["dilation"], "groups": operation.inputs["groups"],
    }  # fmt: skip
    pad = graph.maker(operation.inputs["x"], "pad")
    amounts = _zeros_around(graph, pad) if pad is not None else None
    if pad is not None and amounts is not None:
        inputs |= {
            "x": pad.inputs["x"],
            "pad_type": (Constant(value="custom", type=_TEXT),),
            "pad": (
                Constant(
                    value=torch.tensor(amounts, dtype=torch.int32),
                    type=TensorType(dtype="int32", shape=(len(amounts),)),
                ),
            ),
        }
    return replace(operation, type="conv", inputs=inputs)


def _zeros_around(graph: _Graph, pad: Operation) -> list[int] | None:
    """(before, after) for height and width, if that is all that is padded, with zeros."""
    mode, value = pad.inputs["padding_mode"][0], graph.constant(pad.inputs["padding_value"])
    padding = graph.constant(pad.inputs["padding"])
    if not isinstance(mode, Constant) or mode.value != "constant" or value is None or padding is None:
        return None
    amounts = [int(each) for each in padding.value.tolist()]
    if len(amounts) != 8 or any(amounts[:4]) or min(amounts) < 0 or float(value.value) != 0.0:
        return None
    return amounts[4:]


def _join_bias(graph: _Graph, operation: Operation) -> Operation | None:
    """The sum of a convolution or linear layer and a vector, as its bias."""
    for first, second in (("x", "y"), ("y", "x")):
        bias = graph.constant(operation.inputs[second])
        for type_ in ("conv", "linear"):
            layer = graph.maker(operation.inputs[first], type_)
            if layer is None or bias is None or "bias" in layer.inputs:
                continue
            vector = _vector(bias, layer, type_)
            if vector is not None:
                return replace(layer, inputs={**layer.inputs, "bias": (vector,)}, outputs=operation.outputs)
    return None


def _vector(bias: Constant, layer: Operation, type_: str) -> Constant | None:
    """A constant as bias (C,) of a layer, if it is one number for each channel."""
    made, given = layer.outputs[0].type, bias.type
    if not isinstance(made, TensorType) or not isinstance(given, TensorType) or made.dtype != given.dtype:
        return None
    axis = 1 if type_ == "conv" else len(made.shape) - 1
    channels = made.shape[axis]
    expected = (channels, 1, 1) if type_ == "conv" else (channels,)
    shape = given.shape
    if channels is None or shape[-len(expected) :] != expected or any(size != 1 for size in shape[: -len(expected)]):
        return None
    if len(shape) > len(made.shape):
        return None
    return Constant(value=bias.value.reshape(-1), type=TensorType(dtype=given.dtype, shape=(channels,)))


def _join_linear(graph: _Graph, operation: Operation) -> Operation | None:
    """The product with a transposed matrix as a linear layer."""
    transpose = graph.maker(operation.inputs["y"], "transpose")
    if transpose is None:
        return None
    order, matrix = graph.constant(transpose.inputs["perm"]), graph.type(transpose.inputs["x"])
    if order is None or matrix is None or len(matrix.shape) != 2 or order.value.tolist() != [1, 0]:
        return None
    inputs: dict[str, Argument] = {"x": operation.inputs["x"], "weight": transpose.inputs["x"]}
    return replace(operation, type="linear", inputs=inputs)


def _join_clip(graph: _Graph, operation: Operation) -> Operation | None:
    """The smaller of a number and the larger of another as one limit."""
    for first, second in (("x", "y"), ("y", "x")):
        lower = graph.maker(operation.inputs[first], "maximum")
        high = _number(graph, operation.inputs[second])
        if lower is None or high is None:
            continue
        for inner, other in (("x", "y"), ("y", "x")):
            low = _number(graph, lower.inputs[other])
            if low is not None:
                inputs: dict[str, Argument] = {"x": lower.inputs[inner], "alpha": (low,), "beta": (high,)}
                return replace(operation, type="clip", inputs=inputs)
    return None


def _number(graph: _Graph, argument: Argument) -> Constant | None:
    """A float constant of rank 0."""
    found = graph.constant(argument)
    if found is None or not isinstance(found.type, TensorType) or found.type.shape:
        return None
    return found if found.type.dtype in ("fp32", "fp16") else None


_RULES: Mapping[str, tuple[Callable[[_Graph, Operation], Operation | None], ...]] = {
    "conv2d": (_join_conv,),
    "batch_matmul": (_join_linear,),
    "add": (_join_bias,),
    "minimum": (_join_clip,),
}


def _name(argument: Argument) -> str:
    """The value that an argument refers to; of several or of a constant none."""
    return argument[0].name if len(argument) == 1 and isinstance(argument[0], Reference) else ""


def _mentioned(operation: Operation) -> Iterator[str]:
    """Every value that an operation reads, in nested blocks too."""
    for argument in operation.inputs.values():
        for each in argument:
            if isinstance(each, Reference):
                yield each.name
    for block in operation.blocks:
        yield from _read(block)


def _read(block: Block) -> Iterator[str]:
    yield from block.outputs
    for operation in block.operations:
        yield from _mentioned(operation)
