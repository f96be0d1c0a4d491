"""Replays the operators of torch that a plan calls, without Python between them.

Given:  the steps of a plan, each some calls of Python and of torch
Result: graph(%x, %weight, …): %1 = aten::linear(%x, %weight, None), %2 = aten::relu_(%1), return (%2)

A small network spends half of its time between kernels: with torch 2.13 a step costs 15 us of Python, a node of such a
graph 1 or 2. The graph has the operators of one prediction with their arguments, in their order, on values of the
same layout, and torch's interpreter takes them as they are: the results have the same bits.

Only operators whose arguments follow from shapes are recorded. One that reads a value, draws a number, or has a shape
that values decide ends the recording, and the plan runs as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from coreml_runtime.dtypes import scratch

_TYPES = (
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64,
)  # fmt: skip
"""By the number that a graph has for a type (c10/core/ScalarType.h)."""
_OTHER_TYPES = {torch.bool: 11, torch.bfloat16: 15}
_LAYOUTS = {torch.contiguous_format: 0, torch.preserve_format: 1, torch.channels_last: 2, torch.channels_last_3d: 3}
"""c10/core/MemoryFormat.h."""
_DECIDED_BY_VALUES = (
    torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.nondeterministic_seeded,
)  # fmt: skip

Function = Callable[[Sequence[Tensor]], tuple[Any, ...]]
"""What computes outputs from inputs."""


class Recording:
    """A graph with the constants that it reads. One may be replayed by many threads at once."""

    def __init__(self, graph: Callable[..., list[Tensor]], constants: Sequence[Tensor]) -> None:
        """`graph` takes the inputs and then the constants."""
        self._graph = graph
        shared = scratch.buffer
        self._constants = tuple(constants)
        self._scratch = next((place for place, each in enumerate(constants) if each is shared), None)

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The outputs, by the operators that were recorded."""
        constants = self._constants
        if self._scratch is not None:  # each thread has one of its own
            constants = (*constants[: self._scratch], scratch.buffer, *constants[self._scratch + 1 :])
        before = torch._C._get_graph_executor_optimize()
        torch._C._set_graph_executor_optimize(False)
        try:
            return tuple(self._graph(*inputs, *constants))
        finally:
            torch._C._set_graph_executor_optimize(before)


def available() -> bool:
    """Whether this build of torch makes functions of graphs."""
    return all(
        hasattr(torch._C, name)
        for name in ("Graph", "_create_function_from_graph", "_get_graph_executor_optimize")
    )  # fmt: skip


def record(function: Function, inputs: Sequence[Tensor]) -> tuple[tuple[Any, ...], Recording | None]:
    """The outputs of a function, and its recording: None where it cannot be replayed, or not to the same bits."""
    recorder = _Recorder(inputs)
    with recorder:
        outputs = function(inputs)
    if not all(type(each) is Tensor for each in outputs):
        return outputs, None
    try:
        recording = recorder.finished(outputs)
        usable = recording is not None and all(map(_same, recording(inputs), outputs))
    except RuntimeError:  # torch has no such node after all
        usable = False
    return outputs, recording if usable else None


def _is_decided_by_values(func: Any, args: Sequence[Any]) -> bool:  # torch's operators
    """Whether what an operator returns, or its shape, is another for other values; of indices those are masks."""
    if func is torch.ops.aten.index.Tensor:
        return any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1])
    return any(tag in func.tags for tag in _DECIDED_BY_VALUES)


def _same(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors have the same bits, but for how they say that they are no number."""
    if first.shape != second.shape or first.stride() != second.stride() or first.dtype is not second.dtype:
        return False
    return torch.equal(first, second) or bool(((first == second) | ((first != first) & (second != second))).all())


class _Recorder(TorchDispatchMode):
    """Makes a node of each operator that torch executes while it is active; `failed` once there was one that it cannot.

    What a tensor is in the graph is an attribute of the tensor, so that no tensor lives longer than without it.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        """A graph that takes these inputs, and constants as they are met."""
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no annotation here
        self._graph: Any = torch._C.Graph()
        self._entered = {id(each): self._graph.addInput() for each in inputs}
        self._inputs = tuple(inputs)
        self._constants: dict[int, tuple[Tensor, Any]] = {}
        self._numbers: dict[tuple[type, str], Any] = {}
        self.failed = len(self._entered) < len(inputs)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch would import its compiler, which takes a second, to keep it out of here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Execute an operator and remember it."""
        result = func(*args, **(kwargs or {}))
        if not self.failed and func is not torch.ops.aten.promote_types.default:
            try:
                self._note(func, args, kwargs or {}, result)
            except (TypeError, RuntimeError, KeyError, AttributeError):  # an argument that graphs have no constant for
                self.failed = True
        return result

    def finished(self, outputs: Sequence[Tensor]) -> Recording | None:
        """What was recorded, with these outputs."""
        if self.failed:
            return None
        self._graph.registerOutput(self._list("prim::ListConstruct", [self._tensor(each) for each in outputs]))
        function = torch._C._create_function_from_graph("replay", self._graph)
        return Recording(function, [tensor for tensor, _ in self._constants.values()])

    def _note(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> None:  # torch's operators
        tensors = result if isinstance(result, list | tuple) else () if result is None else (result,)
        if _is_decided_by_values(func, args) or not all(isinstance(each, Tensor) for each in tensors):
            self.failed = True
            return
        schema = func._schema
        given = dict(zip((argument.name for argument in schema.arguments), args, strict=False)) | kwargs
        values = [
            self._value(given.get(argument.name, argument.default_value), argument.type)
            for argument in schema.arguments
        ]
        if isinstance(result, list | tuple) and len(schema.returns) == 1:
            made = self._node("prim::ListUnpack", [self._list(schema.name, values)], len(tensors))
        else:
            made = self._node(schema.name, values, len(tensors))
        for tensor, value in zip(tensors, made.outputs(), strict=True):
            tensor._recorded = (self, value)

    def _node(self, kind: str, values: Sequence[Any], outputs: int) -> Any:  # a node of torch's graphs
        node = self._graph.create(kind, values, outputs)
        self._graph.insertNode(node)
        return node

    def _list(self, kind: str, values: Sequence[Any], element: Any = None) -> Any:  # types of torch's graphs
        output = self._node(kind, values, 1).output()
        output.setType(torch._C.ListType(torch._C.TensorType.get() if element is None else element))
        return output

    def _value(self, argument: Any, type_: Any) -> Any:  # whatever operators take
        """An argument of an operator in the graph."""
        if isinstance(argument, Tensor):
            return self._tensor(argument)
        if isinstance(type_, torch._C.OptionalType) and argument is not None:
            type_ = type_.getElementType()
        if not isinstance(type_, torch._C.ListType):
            return self._constant(float(argument) if str(type_) == "float" and argument is not None else argument)
        element = type_.getElementType()
        if isinstance(argument, list | tuple) and ("Tensor" in str(element) or not argument):
            return self._list("prim::ListConstruct", [self._value(each, element) for each in argument], element)
        if str(element) == "float" and isinstance(argument, list | tuple):
            argument = [float(each) for each in argument]
        return self._constant(list(argument) if isinstance(argument, tuple) else argument)

    def _tensor(self, tensor: Tensor) -> Any:  # a value of torch's graphs
        if id(tensor) in self._entered:
            return self._entered[id(tensor)]
        recorder, value = getattr(tensor, "_recorded", (None, None))
        if recorder is self:
            return value
        if id(tensor) not in self._constants:
            self._constants[id(tensor)] = (tensor, self._graph.addInput())
        return self._constants[id(tensor)][1]

    def _constant(self, value: Any) -> Any:  # a value of torch's graphs
        if isinstance(value, torch.memory_format):
            value = _LAYOUTS[value]
        elif isinstance(value, torch.dtype):
            value = _TYPES.index(value) if value in _TYPES else _OTHER_TYPES[value]
        elif isinstance(value, torch.layout):
            value = 0
        key = (type(value), repr(value))
        if key not in self._numbers:
            self._numbers[key] = self._graph.insertConstant(value)
        return self._numbers[key]
