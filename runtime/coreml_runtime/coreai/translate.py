"""From a graph of the dialect to a Function that the runtime plans and runs, as it does an ML program.

Operands are bound to a kernel's parameters by place, attributes by name. Invocations of private graphs (composites)
become the operations of their bodies, reads and writes of handles those of states, and tokens vanish: they order what
stands in order anyhow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from coreml_runtime.coreai.bytecode import RawBlock, RawOperation, Value
from coreml_runtime.coreai.constants import read_constant
from coreml_runtime.coreai.dialect import Blob, GraphType, HandleType, SparseType, TokenType, UnknownType
from coreml_runtime.coreai.graphs import Graph, Program, callee, operator, walk, word
from coreml_runtime.errors import ModelError, UnsupportedError
from coreml_runtime.ops.context import TensorType
from coreml_runtime.ops.table import Kernel, parameters
from coreml_runtime.program import (
    Argument,
    Block,
    Constant,
    Function,
    ListType,
    Named,
    Operation,
    Reference,
    StateType,
    ValueType,
)

_ENDS = frozenset({"output", "yield", "condition"})
_OWN = frozenset({"constant", "create_token", "join_token", "invoke", *_ENDS})
"""Operators that need no kernel."""
_WITH_BLOCKS = frozenset({"if", "while"})
_MOST_OPERATIONS = 1_000_000
_TEXT = TensorType(dtype="string", shape=())


def translate(program: Program, graph: Graph, kernels: Mapping[str, Kernel]) -> tuple[Function, dict[str, str]]:
    """The function, and by the names of its values the names of the graph's outputs.

    Raises UnsupportedError, which names every operator that `kernels` lacks, before anything else is done.
    """
    _refuse_missing(program, graph, kernels)
    translator = _Translator(program=program, kernels=kernels)
    return translator.function(graph)


def place_names(program: Program, graph: Graph, kernels: Mapping[str, Kernel]) -> list[tuple[str, ...]]:
    """What `translate` calls the results of each operation of the graph itself, in order; tokens are empty texts."""
    translator = _Translator(program=program, kernels=kernels)
    translator.function(graph)
    return [tuple(translator.names.get(value, "") for value in raw.results) for raw in graph.block.operations]


def reachable(program: Program, graph: Graph) -> dict[str, Graph]:
    """A graph and those that it invokes, directly or not. ModelError where one is missing."""
    found = {graph.name: graph}
    waiting = [graph]
    while waiting:
        for operation in walk(waiting.pop().block):
            if operator(operation) != "invoke":
                continue
            name = callee(program.attributes(operation)["callee"])
            if name not in program.graphs:
                raise ModelError(f"the program invokes {name!r}, which it does not define")
            if name not in found:
                found[name] = program.graphs[name]
                waiting.append(program.graphs[name])
    return found


def _refuse_missing(program: Program, graph: Graph, kernels: Mapping[str, Kernel]) -> None:
    missing: Counter[str] = Counter()
    for each in reachable(program, graph).values():
        for operation in walk(each.block):
            name = operator(operation)
            if name not in _OWN and name not in kernels:
                missing[name] += 1
    if missing:
        listed = ", ".join(f"{name} ({count} times)" if count > 1 else name for name, count in sorted(missing.items()))
        raise UnsupportedError(f"function {graph.name!r} needs operators that this runtime lacks: {listed}")


@dataclass(kw_only=True)
class _Translator:
    """Names values and translates operations. `names` maps a value to its name; `constants` those already read."""

    program: Program
    kernels: Mapping[str, Kernel]
    names: dict[Value, str] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)
    running: list[str] = field(default_factory=list)
    translated: int = 0

    def function(self, graph: Graph) -> tuple[Function, dict[str, str]]:
        """The function of an entry."""
        inputs = []
        for port, value in zip(graph.inputs, graph.block.arguments, strict=True):
            if self.taken[port.name]:
                raise ModelError(f"function {graph.name!r} has two inputs {port.name!r}")
            self.taken[port.name] = 1
            self.names[value] = port.name
            inputs.append(Named(name=port.name, type=_value_type(port.type, f"input {port.name!r}")))
        operations = self.operations(graph.block)
        outputs: dict[str, str] = {}
        for port, value in zip(graph.outputs, graph.block.operations[-1].operands, strict=True):
            if isinstance(port.type, TokenType):
                continue
            if port.name in outputs.values():
                raise ModelError(f"function {graph.name!r} has two outputs {port.name!r}")
            name = self._fresh(f"output {port.name}")
            operations.append(self._copy(value, name, _value_type(port.type, f"output {port.name!r}")))
            outputs[name] = port.name
        block = Block(inputs=(), operations=tuple(operations), outputs=tuple(outputs))
        return Function(name=graph.name, opset="ios26", inputs=tuple(inputs), block=block), outputs

    def operations(self, block: RawBlock) -> list[Operation]:
        """The operations of a block without its end."""
        found: list[Operation] = []
        for raw in block.operations:
            name = operator(raw)
            self.translated += 1
            if self.translated > _MOST_OPERATIONS:
                raise ModelError(f"the program has more than {_MOST_OPERATIONS} operations when its parts are put in")
            if name in _ENDS or name in ("create_token", "join_token"):
                continue
            if name == "constant":
                found.append(self._constant(raw))
            elif name == "invoke":
                found += self._invoke(raw)
            else:
                found.append(self._operation(name, raw))
        return found

    def _constant(self, raw: RawOperation) -> Operation:
        if len(raw.results) != 1:
            raise ModelError(f"a constant with {len(raw.results)} results")
        outputs = self._define("constant", raw)
        declared = outputs[0].type
        if not isinstance(declared, TensorType):
            raise UnsupportedError(f"{outputs[0].name}: a constant of type {declared}")
        stored = self.program.attributes(raw)["value"]
        value = read_constant(self.program, stored, declared)
        inputs: dict[str, Argument] = {"val": (Constant(value=value, type=declared),)}
        name = outputs[0].name
        if isinstance(stored, Blob):
            name = self.program.container.resources[stored.resource].name
        return Operation(type="const", name=name, inputs=inputs, outputs=outputs, blocks=())

    def _invoke(self, raw: RawOperation) -> list[Operation]:
        """The operations of the invoked graph's body, on this invocation's operands."""
        name = callee(self.program.attributes(raw)["callee"])
        graph = self.program.graphs[name]
        arguments, ends = graph.block.arguments, graph.block.operations[-1].operands
        if len(arguments) != len(raw.operands) or len(ends) != len(raw.results):
            raise ModelError(f"{name!r} is invoked with {len(raw.operands)} operands for {len(raw.results)} results")
        if name in self.running:
            raise UnsupportedError(f"the function {name!r} invokes itself")
        outer = self.names
        self.names = {
            inner: outer[given] for inner, given in zip(arguments, raw.operands, strict=True) if given in outer
        }
        self.running.append(name)
        operations = self.operations(graph.block)
        self.running.pop()
        inside, self.names = self.names, outer
        for result, end in zip(raw.results, ends, strict=True):
            if end in inside:
                self.names[result] = inside[end]
        return operations

    def _operation(self, name: str, raw: RawOperation) -> Operation:
        attributes = {key: word(value) for key, value in self.program.attributes(raw).items()}
        blocks: tuple[Block, ...] = ()
        if name in _WITH_BLOCKS:
            blocks = tuple(self._block(region) for region in raw.regions)
        operands = [value for value in raw.operands if not isinstance(self.program.type(value), TokenType)]
        inputs = self._bind(name, operands, attributes)
        outputs = self._define(name, raw)
        where = outputs[0].name if outputs else self._fresh(name)
        return Operation(type=name, name=where, inputs=inputs, outputs=outputs, blocks=blocks)

    def _bind(self, name: str, operands: list[Value], attributes: Mapping[str, str]) -> dict[str, Argument]:
        """Attributes go to the parameters of their names, operands to the others in order; a tuple takes the rest."""
        found: dict[str, Argument] = {key: (Constant(value=value, type=_TEXT),) for key, value in attributes.items()}
        waiting = list(operands)
        for parameter in parameters(self.kernels[name]):
            if parameter.kind == "context" or parameter.name in attributes:
                continue
            if parameter.kind == "tensors":
                found[parameter.name] = tuple(self._reference(each) for each in waiting)
                waiting = []
            elif waiting:
                found[parameter.name] = (self._reference(waiting.pop(0)),)
        if waiting:
            raise UnsupportedError(f"operator {name} with {len(operands)} operands")
        return found

    def _block(self, region: RawBlock) -> Block:
        inputs = []
        for value in region.arguments:
            self.names[value] = self._fresh("argument")
            type_ = _value_type(self.program.type(value), "a block's argument")
            inputs.append(Named(name=self.names[value], type=type_))
        operations = self.operations(region)
        last = region.operations[-1] if region.operations else None
        if last is None:
            return Block(inputs=tuple(inputs), operations=(), outputs=())
        if operator(last) not in _ENDS:
            raise ModelError(f"a block ends with {last.name}")
        outputs = tuple(self._reference(value).name for value in last.operands)
        return Block(inputs=tuple(inputs), operations=tuple(operations), outputs=outputs)

    def _copy(self, value: Value, name: str, type_: ValueType) -> Operation:
        inputs: dict[str, Argument] = {"x": (self._reference(value),)}
        return Operation(type="identity", name=name, inputs=inputs, outputs=(Named(name=name, type=type_),), blocks=())

    def _define(self, name: str, raw: RawOperation) -> tuple[Named, ...]:
        """Names for what an operation gives, tokens left out."""
        outputs = []
        for value in raw.results:
            type_ = self.program.type(value)
            if isinstance(type_, TokenType):
                continue
            self.names[value] = self._fresh(name)
            outputs.append(Named(name=self.names[value], type=_value_type(type_, self.names[value])))
        return tuple(outputs)

    def _fresh(self, name: str) -> str:
        """A name that no value has: "conv2d", then "conv2d_1", ….."""
        while True:
            number = self.taken[name]
            self.taken[name] += 1
            candidate = f"{name}_{number}" if number else name
            if candidate == name or not self.taken[candidate]:
                self.taken[candidate] += candidate != name
                return candidate

    def _reference(self, value: Value) -> Reference:
        if value not in self.names:
            raise ModelError(f"value {value.number} is used where it is not visible")
        return Reference(name=self.names[value])


def _value_type(type_: GraphType, where: str) -> ValueType:
    """The runtime's type of a value. A sparse tensor is a list: mask and values."""
    if isinstance(type_, TensorType):
        return type_
    if isinstance(type_, HandleType):
        return StateType(wrapped=type_.inner)
    if isinstance(type_, SparseType):
        return ListType(element=type_.dense, length=2)
    if isinstance(type_, UnknownType):
        raise UnsupportedError(f"{where}: a value of {type_.text}")
    raise ModelError(f"{where}: a token where a value is expected")
