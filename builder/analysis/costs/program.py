"""From a function of an ML program, or of a Core AI asset, to the steps that are counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from builder.analysis.costs.asking import ask
from builder.analysis.costs.graph import Graph, Step
from builder.analysis.costs.order import needed
from builder.analysis.costs.products import Operands, macs
from builder.analysis.costs.values import (
    Outlines,
    Shape,
    Value,
    declared_shape,
    of_constant,
    of_result,
    tensor_type,
)
from coreml_runtime.errors import ModelError
from coreml_runtime.ops.table import Kernel, parameters
from coreml_runtime.program import Block, Constant, Function, Operation, Reference, StateType

VIEWS = frozenset(
    {
        *("reshape", "expand_dims", "squeeze", "flatten2d", "identity", "reshape_like", "shrink_dims"),
        *("read_state", "read_handle"),
    }
)
"""Operators whose result can be the memory of what they are given."""
_CHOICES, _LOOPS = frozenset({"cond", "if"}), frozenset({"while_loop", "while"})
_SHAPES = frozenset({"shape", "get_shape"})
_TENSORS = frozenset({"tensor", "tensors", "any"})
"""Kinds of parameters that are computed with; all others are settings."""
MOST_TURNS = 10_000


def read_graph(function: Function, kernels: Mapping[str, Kernel], sizes: Mapping[str, Shape]) -> Graph:
    """The steps of a function; `sizes` are the shapes of inputs whose file leaves them open."""
    reader = _Reader(function=function, kernels=kernels)
    scope: Scope = {}
    for entry in function.inputs:
        type_ = tensor_type(entry.type)
        shape = declared_shape(type_) or sizes.get(entry.name)
        scope[entry.name] = Value(name=entry.name, type=type_, shape=shape)
    with torch.inference_mode(), Outlines():
        steps = tuple(reader.block(function.block, scope))
    states = [entry.name for entry in function.inputs if isinstance(entry.type, StateType)]
    found = {name: size for name, size in reader.bytes.items() if name not in states}
    plain = [entry.name for entry in function.inputs if entry.name not in states]
    return Graph(
        steps=steps,
        bytes=found | dict.fromkeys(states, 0),
        inputs=tuple(plain),
        outputs=tuple(name for name in function.block.outputs if scope[name].sources is None),
        states=sum(scope[name].bytes or 0 for name in states),
    )


Scope = dict[str, Value]


@dataclass(kw_only=True)
class _Reader:
    """Carries types, shapes and small numbers through a function."""

    function: Function
    kernels: Mapping[str, Kernel]
    bytes: dict[str, int] = field(default_factory=dict)
    """By activation."""

    def block(self, block: Block, scope: Scope) -> Iterator[Step]:
        """The steps of a block, which adds its values to `scope`."""
        for value in scope.values():
            self._count(value)
        for operation in block.operations:
            if operation.type == "const":
                (constant,) = operation.inputs["val"]
                if not isinstance(constant, Constant):
                    raise ModelError(f"constant {operation.name!r} has no value")
                name = operation.outputs[0].name
                scope[name] = of_constant(name, constant)
            else:
                yield from self._operation(operation, scope)

    def _count(self, value: Value) -> None:
        if value.sources is None and value.bytes is not None:
            self.bytes[value.name] = value.bytes

    def _operation(self, operation: Operation, scope: Scope) -> Iterator[Step]:
        given = {key: self._values(operation, key, scope) for key in operation.inputs}
        sources = self._sources(operation, given)
        if operation.type in _LOOPS | _CHOICES:
            yield self._control(operation, given, scope)
            return
        results = self._results(operation, given)
        for entry, result in zip(operation.outputs, results, strict=True):
            scope[entry.name] = of_result(entry, result, sources)
            self._count(scope[entry.name])
        if sources is None:
            yield self._step(operation, given, scope)

    def _values(self, operation: Operation, key: str, scope: Scope) -> list[Value]:
        found = []
        for each in operation.inputs[key]:
            if isinstance(each, Constant):
                found.append(of_constant(f"{_name(operation)}.{key}", each))
            elif each.name in scope:
                found.append(scope[each.name])
            else:
                raise ModelError(f"{each.name!r} is not defined before it is used")
        return found

    def _tensor_arguments(self, operation: Operation) -> frozenset[str]:
        """The arguments that the operator computes with."""
        kernel = self.kernels.get(operation.type)
        if kernel is None:
            return frozenset(operation.inputs)
        return frozenset(each.name for each in parameters(kernel) if each.kind in _TENSORS)

    def _sources(self, operation: Operation, given: Mapping[str, Sequence[Value]]) -> dict[str, int] | None:
        """What an operator of constants alone is made from: a system computes it once, when it loads the model."""
        every = [value for values in given.values() for value in values]
        if operation.blocks or operation.type.startswith("random") or not operation.outputs:
            return None
        if any(value.sources is None for value in every):
            return None
        computed = self._tensor_arguments(operation)
        wanted = [value for key, values in given.items() if key in computed for value in values]
        return {name: size for value in wanted for name, size in (value.sources or {}).items()}

    def _results(self, operation: Operation, given: Mapping[str, Sequence[Value]]) -> Sequence[object]:
        """What the kernel gives for outlines, where the file does not declare it all or numbers are wanted."""
        types = [tensor_type(entry.type) for entry in operation.outputs]
        every = [value for values in given.values() for value in values]
        open_ = any(declared_shape(type_) is None and type_ is not None for type_ in types)
        numbers = operation.type in _SHAPES or (bool(every) and all(value.known is not None for value in every))
        nothing: Sequence[object] = [None] * len(types)
        kernel = self.kernels.get(operation.type)
        if kernel is None or not (open_ or numbers):
            return nothing
        found = ask(operation, kernel, given, self.function.opset)
        return nothing if found is None else found

    def _step(self, operation: Operation, given: Mapping[str, Sequence[Value]], scope: Scope) -> Step:
        outputs = [scope[entry.name] for entry in operation.outputs]
        computed = self._tensor_arguments(operation)
        used = [value for key, values in given.items() if key in computed for value in values]
        held = {value.name: value for value in used if value.sources is not None}
        return Step(
            name=_name(operation),
            kind=operation.type,
            reads=tuple(dict.fromkeys(value.name for value in used if value.sources is None)),
            writes=tuple(value.name for value in outputs),
            macs=macs(operation.type, _operands(given, outputs)) if operation.type in self.kernels else None,
            stored={name: size for value in held.values() for name, size in (value.sources or {}).items()},
            computed={name: value.bytes or 0 for name, value in held.items()},
            is_view=operation.type in VIEWS and any(value.sources is None for value in used),
        )

    def _control(self, operation: Operation, given: Mapping[str, Sequence[Value]], scope: Scope) -> Step:
        """A loop with what one turn executes, or a choice with its heavier branch."""
        carried = [] if operation.type in _CHOICES else [v for values in given.values() for v in values]
        parts = [self._inside(block, carried, scope) for block in operation.blocks]
        if operation.type in _CHOICES:
            inner, own = max(parts, key=lambda part: sum(total(step) for step in part[0]))
            turns: int | None = 1
        else:
            inner = tuple(step for steps, _ in parts for step in steps)
            own = {name: size for _, sizes in parts for name, size in sizes.items()}
            turns = self._turns(operation, carried, scope)
        after = [scope[entry.name] for entry in self._declare(operation, carried, scope)]
        outside = [name for name in _mentioned(operation) if name in scope and scope[name].sources is None]
        ends = [name for block in operation.blocks for name in block.outputs]
        return Step(
            name=_name(operation),
            kind=operation.type,
            reads=tuple(dict.fromkeys(outside)),
            writes=tuple(value.name for value in after),
            macs=0,
            inner=inner,
            turns=turns or 1,
            is_open=turns is None,
            extra=needed(Graph(steps=inner, bytes=own, inputs=(), outputs=tuple(n for n in ends if n in own))),
        )

    def _inside(self, block: Block, carried: Sequence[Value], scope: Scope) -> tuple[tuple[Step, ...], dict[str, int]]:
        """The steps of a nested block, and the bytes of the activations that are its own."""
        inner = self._entered(block, carried, scope, numbers=False)
        steps = tuple(self.block(block, inner))
        own = {name: self.bytes[name] for name in inner if name not in scope and name in self.bytes}
        return steps, own

    def _entered(self, block: Block, carried: Sequence[Value], scope: Scope, *, numbers: bool) -> Scope:
        """The scope in which a block begins; without `numbers` what a loop carries may be anything of its type."""
        inner = dict(scope)
        for entry, value in zip(block.inputs, carried, strict=False):
            type_ = tensor_type(entry.type)
            shape = declared_shape(type_) or value.shape
            inner[entry.name] = Value(
                name=entry.name, type=type_ or value.type, shape=shape, known=value.known if numbers else None
            )
        return inner

    def _declare(self, operation: Operation, carried: Sequence[Value], scope: Scope) -> Iterator[Any]:
        """Add what a loop or choice gives to the scope: what the file declares, or the shape that was carried in."""
        for index, entry in enumerate(operation.outputs):
            value = of_result(entry, None, None)
            if value.shape is None and index < len(carried):
                value = Value(name=entry.name, type=value.type, shape=carried[index].shape)
            scope[entry.name] = value
            self._count(value)
            yield entry

    def _turns(self, operation: Operation, carried: Sequence[Value], scope: Scope) -> int | None:
        """How often a loop goes round, where constants decide: its condition is asked turn by turn."""
        condition, body = operation.blocks
        state = list(carried)
        before = dict(self.bytes)
        try:
            for turn in range(MOST_TURNS):
                goes_on = self._ended(condition, state, scope)[0]
                if goes_on.known is None:
                    return None
                if not bool(goes_on.known):
                    return turn
                state = self._ended(body, state, scope)
                if all(value.known is None for value in state):
                    return None
        finally:
            self.bytes = before
        return None

    def _ended(self, block: Block, state: Sequence[Value], scope: Scope) -> list[Value]:
        """What a block returns, as far as numbers go: only operators on known numbers are looked at."""
        inner = self._entered(block, state, scope, numbers=True)
        for operation in block.operations:
            if operation.type == "const":
                (constant,) = operation.inputs["val"]
                assert isinstance(constant, Constant)
                inner[operation.outputs[0].name] = of_constant(operation.outputs[0].name, constant)
                continue
            names = list(_mentioned(operation))
            ready = all(name in inner and inner[name].known is not None for name in names) and not operation.blocks
            given = {key: self._values(operation, key, inner) for key in operation.inputs} if ready else {}
            results = self._results(operation, given) if ready else [None] * len(operation.outputs)
            for entry, result in zip(operation.outputs, results, strict=True):
                inner[entry.name] = of_result(entry, result, None)
        return [inner[name] for name in block.outputs]


def total(step: Step) -> int:
    """Multiply-accumulates of a step with all that it executes; what is not known counts as 0."""
    return (step.macs or 0) + step.turns * sum(total(each) for each in step.inner)


def _name(operation: Operation) -> str:
    """What an operator is called: by its first output, as the lint does."""
    return operation.outputs[0].name if operation.outputs else operation.name


def _operands(given: Mapping[str, Sequence[Value]], outputs: Sequence[Value]) -> Operands:
    constants = {}
    for key, values in given.items():
        if len(values) == 1 and values[0].known is not None:
            known = values[0].known
            single = isinstance(known, torch.Tensor) and known.numel() == 1
            constants[key] = known.item() if single else known
    return Operands(
        shapes={key: [value.shape for value in values] for key, values in given.items()},
        constants=constants,
        output=outputs[0].shape if outputs else None,
    )


def _mentioned(operation: Operation) -> Iterator[str]:
    """Every name that an operation and its blocks read."""
    for argument in operation.inputs.values():
        yield from (each.name for each in argument if isinstance(each, Reference))
    for block in operation.blocks:
        yield from block.outputs
        for inner in block.operations:
            yield from _mentioned(inner)
