"""Carries intervals from the inputs of a program through all of its operators, without executing it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import torch

from coreml_runtime.binding import Argument, Bound, Known, Slot, bind_arguments, hold
from coreml_runtime.dtypes import round_half
from coreml_runtime.errors import ModelError, UnsupportedError
from coreml_runtime.fold import fold
from coreml_runtime.intervals.context import Outputs, Transfer
from coreml_runtime.intervals.interval import Interval, anything, everywhere, hull, widened
from coreml_runtime.intervals.moving import unknown_places
from coreml_runtime.intervals.transfers import transfers
from coreml_runtime.intervals.unary import RANGES, wrapped
from coreml_runtime.intervals.visit import HALF_MAX, PRECISION, Operand, Visit, most
from coreml_runtime.ops.context import UNKNOWN_RANK, TensorType
from coreml_runtime.ops.table import Kernel, Value, is_exact
from coreml_runtime.program import Block, Constant, Function, Named, Operation, Reference, StateType

_LEAST_FLOAT = 2.0**-126
"""Below it single precision loses bits, or flushes to zero."""
_FAILURES = (RuntimeError, ValueError, IndexError, TypeError, KeyError, ArithmeticError)
_BOTH, _BRANCHES = 2, ("cond",)
_TURNS = 4
"""So often it is tried whether states hold no more than is assumed."""


def walk(
    functions: Mapping[str, Function], kernels: Mapping[str, Kernel], given: Mapping[str, Given]
) -> dict[str, list[Visit]]:
    """Visit all operators of each function; inputs that are not `given` for it may be anything at all.

    States are common to the functions. Each begins with zeros, and holds what any of them writes to it: it is assumed
    to hold nothing else, until that is true, or is given up.
    """
    states = {e.name: _zeros(e) for f in functions.values() for e in f.inputs if isinstance(e.type, StateType)}
    for turn in range(_TURNS):
        found, grown = {}, dict(states)
        for name, function in functions.items():
            found[name], left = _walk_once(function, kernels, given[name], states)
            for state, interval in left.items():
                if not _is_inside(interval, grown[state]):
                    joined = hull([grown[state], interval], grown[state].sizes)
                    last = turn >= _TURNS - 2
                    grown[state] = anything(joined.sizes) if last else replace(joined, reached=False, sources=None)
        if all(grown[name] is states[name] for name in states):
            break
        states = grown
    return found


Given = Mapping[str, Interval]
"""By name of an input."""


def _walk_once(
    function: Function, kernels: Mapping[str, Kernel], given: Given, states: Mapping[str, Interval]
) -> tuple[list[Visit], Mapping[str, Interval]]:
    """The operators of one function, and what states hold behind it."""
    walker = _Walker(opset=function.opset, kernels=kernels, states=dict(states))
    scope: Scope = {}
    for entry in function.inputs:
        interval = given.get(entry.name, states.get(entry.name, anything(_sizes(entry))))
        interval = finished(interval, _tensor_type(entry), exact=False)
        scope[entry.name] = walker.value(entry, interval, sure=not interval.nan)
    return list(walker.block(function.block, scope)), walker.states


def _zeros(entry: Named) -> Interval:
    return replace(everywhere(0.0, 0.0, _sizes(entry)), sources=None)


def _is_inside(inner: Interval, outer: Interval) -> bool:
    inside = inner.least >= outer.least and inner.greatest <= outer.greatest
    return inside and (outer.nan or not inner.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Value:
    """What a name stands for."""

    argument: Argument
    operand: Operand


def _sizes(entry: Named) -> tuple[int | None, ...]:
    type_ = entry.type.wrapped if isinstance(entry.type, StateType) else entry.type
    return type_.shape if isinstance(type_, TensorType) and type_.shape != UNKNOWN_RANK else ()


def _tensor_type(entry: Named) -> TensorType | None:
    type_ = entry.type.wrapped if isinstance(entry.type, StateType) else entry.type
    return type_ if isinstance(type_, TensorType) and type_.dtype != "string" else None


Scope = dict[str, "_Value | Constant"]
"""By name, what is computed and what the file holds."""


@dataclass(kw_only=True)
class _Walker:
    opset: str
    kernels: Mapping[str, Kernel]
    states: dict[str, Interval]
    """What each state holds by now."""
    intervals: list[Interval] = field(default_factory=list)
    """By slot."""
    nesting: int = 0

    def value(self, entry: Named, interval: Interval, *, sure: bool) -> _Value:
        """A value that is computed."""
        slot = Slot(index=len(self.intervals), type=entry.type)
        interval = interval if interval.token is not None else replace(interval, token=slot.index)
        self.intervals.append(interval)
        operand = Operand(name=entry.name, type=_tensor_type(entry), value=interval, sure=sure)
        return _Value(argument=slot, operand=operand)

    def block(self, block: Block, scope: Scope) -> Iterator[Visit]:
        """Visit a block, which adds its values to `scope`."""
        for operation in block.operations:
            if operation.type == "const":
                self._constant(operation, scope)
            else:
                yield from self._operation(operation, scope)

    def _constant(self, operation: Operation, scope: Scope) -> None:
        (value,) = operation.inputs["val"]
        if not isinstance(value, Constant):
            raise ModelError(f"constant {operation.name!r} has no value")
        scope[operation.outputs[0].name] = value

    def _resolved(self, each: Reference | Constant, scope: Scope) -> _Value:
        """What an argument is; a constant is held anew for each reader, so that no weight is kept in memory."""
        found: Reference | Constant | _Value = each
        name = ""
        if isinstance(each, Reference):
            if each.name not in scope:
                raise ModelError(f"{each.name!r} is not defined before it is used")
            found, name = scope[each.name], each.name
        if isinstance(found, _Value):
            return found
        assert isinstance(found, Constant)
        operand = Operand(name=name or None, type=_tensor_type(Named(name=name, type=found.type)), value=found)
        return _Value(argument=hold(found, PRECISION), operand=operand)

    def interval(self, name: str, scope: Scope) -> Interval:
        """The bounds of what a name stands for."""
        return self._resolved(Reference(name=name), scope).operand.interval

    def _operation(self, operation: Operation, scope: Scope) -> Iterator[Visit]:
        values = {
            key: tuple(self._resolved(each, scope) for each in argument) for key, argument in operation.inputs.items()
        }
        kernel = self.kernels.get(operation.type)
        if kernel is None:
            raise UnsupportedError(f"operator {operation.type} {operation.name!r}")
        where = f"operator {operation.type} {operation.name!r}"
        bound = bind_arguments(kernel, {k: tuple(v.argument for v in each) for k, each in values.items()}, where)
        folded = fold(operation, kernel, bound, opset=self.opset, precision=PRECISION)
        if folded is not None:
            for entry, result in zip(operation.outputs, folded, strict=True):
                scope[entry.name] = _known(entry, result)
            return
        inner: list[Scope] = [dict(scope) for _ in operation.blocks]
        for block, own in zip(operation.blocks, inner, strict=True):
            for entry in block.inputs:
                own[entry.name] = self.value(entry, anything(_sizes(entry)), sure=False)
            self.nesting += 1
            yield from self.block(block, own)
            self.nesting -= 1
        transfer = transfers().get(operation.type)
        inputs = {key: tuple(value.operand for value in each) for key, each in values.items()}
        results: tuple[Interval, ...] | None
        if operation.type == "read_state":
            results = (self.states[inputs["input"][0].name or ""],)
        elif operation.type == "write_state":
            self._write(inputs)
            results = ()
        elif operation.type in _BRANCHES:
            results = _either(operation, self, inner)
        else:
            results = None if transfer is None or operation.blocks else self._asked(transfer, operation, bound, values)
        known = results is not None
        outer = all(operand.sure for each in inputs.values() for operand in each)
        outputs = []
        for index, entry in enumerate(operation.outputs):
            interval = anything(_sizes(entry)) if results is None else results[index]
            held = finished(interval, _tensor_type(entry), exact=is_exact(kernel))
            sure = outer and not held.nan and _fits(held, _tensor_type(entry))
            made = self.value(entry, held, sure=sure)
            scope[entry.name] = made
            outputs.append(replace(made.operand, sure=outer))
        yield Visit(operation=operation, inputs=inputs, outputs=tuple(outputs), known=known, nested=self.nesting > 0)

    def _write(self, inputs: Mapping[str, tuple[Operand, ...]]) -> None:
        """Put a value into a state: inside control flow it may also stay as it was."""
        name, data = inputs["input"][0].name or "", inputs["data"][0].interval
        held = hull([self.states[name], data], self.states[name].sizes) if self.nesting else data
        self.states[name] = replace(held, reached=False, sources=None, token=None, measure=None)

    def _asked(
        self, transfer: Transfer, operation: Operation, bound: Bound, values: Mapping[str, tuple[_Value, ...]]
    ) -> tuple[Interval, ...] | None:
        """What the transfer function says; None where it needs to know what is computed, or cannot say."""
        types = tuple(_tensor_type(entry) for entry in operation.outputs)
        if any(type_ is None or type_.shape == UNKNOWN_RANK for type_ in types):
            return None
        arguments: dict[str, Value] = dict(bound.known)
        arguments |= {name: self.intervals[slot] for name, slot in bound.tensors}
        arguments |= {name: tuple(map(self._member, members)) for name, members in bound.groups}
        kinds = {
            key: each[0].operand.type.dtype for key, each in values.items() if each and each[0].operand.type is not None
        }
        wanted = _parameters(transfer)
        outputs = Outputs(types=types, opset=self.opset, given=kinds)
        if any(name in wanted for name, *_ in bound.converted):
            given = {
                key: [value.operand.interval for value in each]
                for key, each in values.items()
                if key in ("x", "values")
            }
            return unknown_places(operation.type, given, outputs)
        if "outputs" in wanted:
            arguments["outputs"] = outputs
        accepted = arguments if "_" in wanted else {k: v for k, v in arguments.items() if k in wanted}
        try:
            result = transfer(**accepted)
        except _FAILURES:
            return None
        return result if isinstance(result, tuple) else (result,)

    def _member(self, member: Argument) -> Value:
        return self.intervals[member.index] if isinstance(member, Slot) else member.value


@cache
def _parameters(transfer: Transfer) -> frozenset[str]:
    return frozenset(inspect.signature(transfer).parameters)


def _known(entry: Named, value: Known) -> _Value:
    """A constant; weights are looked at when somebody asks."""
    return _Value(argument=value, operand=Operand(name=entry.name or None, type=_tensor_type(entry), value=value))


def _either(operation: Operation, walker: _Walker, scopes: list[Scope]) -> tuple[Interval, ...] | None:
    """What a choice between two blocks gives."""
    if len(scopes) != _BOTH or any(_tensor_type(entry) is None for entry in operation.outputs):
        return None
    names = zip(*(block.outputs for block in operation.blocks), strict=True)
    return tuple(
        hull([walker.interval(name, scope) for scope, name in zip(scopes, each, strict=True)], _sizes(entry))
        for each, entry in zip(names, operation.outputs, strict=True)
    )


def finished(x: Interval, type_: TensorType | None, *, exact: bool) -> Interval:
    """The interval of the values as they are held: floats rounded or not, integers within their type."""
    if type_ is None:
        return x
    if type_.dtype in RANGES:
        return wrapped(x, type_.dtype)
    if not exact:
        x = widened(x, 0.0, _LEAST_FLOAT)
    if type_.dtype != "fp16" or exact:
        return x
    inside = x.low.abs().maximum(x.high.abs()) <= HALF_MAX
    low, high = (round_half(bound.float()).double() for bound in (x.low, x.high))
    rounded = torch.where(inside, x.low.minimum(low), x.low), torch.where(inside, x.high.maximum(high), x.high)
    return widened(replace(x, low=rounded[0], high=rounded[1]), 0.0 if bool(inside.all()) else 2.0**-11)


def _fits(x: Interval, type_: TensorType | None) -> bool:
    return type_ is not None and x.magnitude <= most(type_.dtype)
