"""From a Function to a Plan: kernels bound to their constants, values in numbered slots, freed at their last use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from coreml_runtime.binding import Argument, Bound, Slot, bind_arguments, hold
from coreml_runtime.dtypes import Precision
from coreml_runtime.errors import ModelError, UnsupportedError
from coreml_runtime.executor import BlockPlan, Step, make_step
from coreml_runtime.fold import fold
from coreml_runtime.limits import check_size
from coreml_runtime.loops import PREPARE
from coreml_runtime.ops.context import TensorType
from coreml_runtime.ops.table import Kernel, parameters
from coreml_runtime.prepack import Packer, PrepackedKernel, packs
from coreml_runtime.program import Block, Constant, Function, Named, Operation, Reference, StateType
from coreml_runtime.reuse import Memory, moved


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A function ready to run. `names` maps every computed value of the top level to its slot, for intermediates.

    `replays` says that what its steps do follows from the layout of the inputs, see `recorded`.
    """

    function: str
    precision: Precision
    slots: int
    inputs: tuple[tuple[Named, int], ...]
    states: tuple[Named, ...]
    block: BlockPlan
    outputs: tuple[str, ...]
    names: Mapping[str, int]
    replays: bool


def make_plan(
    function: Function, kernels: Mapping[str, Kernel], precision: Precision, *, release: Callable[[], None]
) -> Plan:
    """Bind every operation of `function`; one UnsupportedError names all that is missing, before any work is done.

    `release` is called, later too, when weights were copied, so that the pages of their file can be given back.
    """
    _refuse_missing(function, kernels)
    planner = _Planner(
        opset=function.opset, kernels=kernels, precision=precision, uses=Counter(_mentioned_in(function.block)),
        packer=Packer(release=release), memory=Memory(precision=precision),
    )  # fmt: skip
    scope: dict[str, Argument] = {}
    inputs = tuple((entry, planner.define(entry, scope)) for entry in function.inputs)
    for entry in function.inputs:
        check_size(entry.type, f"input {entry.name!r}")
    block = planner.block(function.block, scope)
    states = tuple(entry for entry in function.inputs if isinstance(entry.type, StateType))
    return Plan(
        function=function.name,
        precision=precision,
        slots=planner.slots,
        inputs=inputs,
        states=states,
        block=block,
        outputs=function.block.outputs,
        names={name: found.index for name, found in scope.items() if isinstance(found, Slot)},
        replays=packs() and not states and all(step.replays for step in block.steps),
    )


@dataclass(kw_only=True)
class _Planner:
    """Hands out slots and plans blocks; one frame of slots serves a function and all blocks nested in it."""

    opset: str
    kernels: Mapping[str, Kernel]
    precision: Precision
    uses: Counter[str]
    packer: Packer
    memory: Memory
    slots: int = 0

    def define(self, entry: Named, scope: dict[str, Argument]) -> int:
        """A new slot for a name."""
        _claim(entry.name, scope)
        slot = self.slots
        self.slots += 1
        scope[entry.name] = Slot(index=slot, type=entry.type)
        return slot

    def block(self, block: Block, scope: dict[str, Argument]) -> BlockPlan:
        """Plan a block. `scope` gains what the block defines; what was in it before belongs to the caller."""
        outer = frozenset(scope)
        inputs = tuple(self.define(entry, scope) for entry in block.inputs)
        last_use = _last_uses(block)
        steps: list[Step] = []
        for position, operation in enumerate(block.operations):
            dying = [name for name in last_use.get(position, ()) if name not in outer]
            self._operation(operation, scope, dying, steps)
        outputs = tuple(self._find(name, scope, "the block's outputs") for name in block.outputs)
        return BlockPlan(inputs=inputs, steps=tuple(steps), outputs=outputs)

    def _operation(self, operation: Operation, scope: dict[str, Argument], dying: list[str], steps: list[Step]) -> None:
        """Add the step of an operation, after which nobody reads the names `dying`; none if it becomes a constant."""
        where = f"operator {operation.type} {operation.name!r}"
        for entry in operation.outputs:
            check_size(entry.type, where)
        if operation.type == "const":
            self._constant(operation, scope, where)
            return
        given = {
            key: tuple(self._resolve(each, scope, f"{where}, argument {key!r}") for each in argument)
            for key, argument in operation.inputs.items()
        }
        kernel, bound = self._bind(operation, given, where)
        known = fold(operation, kernel, bound, opset=self.opset, precision=self.precision)
        if known is not None:
            for entry, value in zip(operation.outputs, known, strict=True):
                _claim(entry.name, scope)
                scope[entry.name] = value
            return
        blocks = tuple(self.block(each, dict(scope)) for each in operation.blocks)
        read = {found.index for name in _mentioned(operation) if isinstance(found := scope.get(name), Slot)}
        slots = tuple(self.define(entry, scope) for entry in operation.outputs)
        frees = tuple(found.index for name in dying if isinstance(found := scope.get(name), Slot))
        make = partial(
            make_step, operation, kernel, bound, outputs=slots, blocks=blocks, frees=frees, opset=self.opset,
            precision=self.precision,
        )  # fmt: skip
        self.memory.note(kernel, operation, slots, read)
        if isinstance(kernel, PrepackedKernel) and kernel.activates:
            self.memory.packed[slots[0]] = (kernel, len(steps), lambda fast: make(fast=fast))
        absorbed = self.memory.absorb(operation, given, frees) if self._is_read_once(operation) else None
        if absorbed is not None:
            steps[absorbed[0]] = absorbed[1]
            steps.append(moved(make(), *read))
            return
        steps.append(make(fast=self.memory.kernel_in_place(kernel, bound, given, operation, frees)))

    def _is_read_once(self, operation: Operation) -> bool:
        """Whether nobody else reads the operation's argument x."""
        x = operation.inputs.get("x", ())
        return len(x) == 1 and isinstance(x[0], Reference) and self.uses[x[0].name] == 1

    def _bind(
        self, operation: Operation, given: Mapping[str, tuple[Argument, ...]], where: str
    ) -> tuple[Kernel, Bound]:
        """The kernel with its arguments; the one for packed weights if the weight serves this operation only."""
        kernel = self.kernels[operation.type]
        weight = operation.inputs.get("weight", ())
        if len(weight) == 1 and (isinstance(weight[0], Constant) or self.uses[weight[0].name] == 1):
            x = given.get("x", ())
            declared = x[0].type if len(x) == 1 and isinstance(x[0], Slot) else None
            packed = self.packer.pack(
                operation.type, kernel, given, declared if isinstance(declared, TensorType) else None, where
            )
            if packed is not None:
                return packed
        bound = bind_arguments(kernel, given, where)
        return _prepared(operation.type, kernel, bound)

    def _constant(self, operation: Operation, scope: dict[str, Argument], where: str) -> None:
        value = operation.inputs.get("val", ())
        if len(operation.outputs) != 1 or len(value) != 1 or not isinstance(value[0], Constant):
            raise ModelError(f"{where}: a constant has one value and one output")
        name = operation.outputs[0].name
        _claim(name, scope)
        scope[name] = hold(value[0], self.precision)

    def _resolve(self, each: Reference | Constant, scope: dict[str, Argument], where: str) -> Argument:
        if isinstance(each, Constant):
            return hold(each, self.precision)
        return self._find(each.name, scope, where)

    @staticmethod
    def _find(name: str, scope: dict[str, Argument], where: str) -> Argument:
        if name not in scope:
            raise ModelError(f"{where}: {name!r} is not defined before it is used")
        return scope[name]


def _prepared(type_: str, kernel: Kernel, bound: Bound) -> tuple[Kernel, Bound]:
    """The kernel on weights in the form that it computes on, if all of them are known."""
    waiting = {name for name, _ in bound.tensors} | {name for name, *_ in bound.converted}
    if type_ not in PREPARE or any(name.startswith(("weight", "bias", "peephole")) for name in waiting):
        return kernel, bound
    ready, known = PREPARE[type_](bound.known)
    return ready, replace(bound, known=known)


def _claim(name: str, scope: Mapping[str, Argument]) -> None:
    if name in scope:
        raise ModelError(f"the value {name!r} is defined twice")


def _last_uses(block: Block) -> dict[int, list[str]]:
    """Position of an operation -> names whose last use it is; the block's own outputs are never in it."""
    last: dict[str, int] = {}
    for position, operation in enumerate(block.operations):
        for name in _mentioned(operation):
            last[name] = position
        for entry in operation.outputs:
            last.setdefault(entry.name, position)
    dying: dict[int, list[str]] = {}
    for name, position in last.items():
        if name not in block.outputs:
            dying.setdefault(position, []).append(name)
    return dying


def _mentioned(operation: Operation) -> Iterator[str]:
    """Every name that an operation reads, in nested blocks too."""
    for argument in operation.inputs.values():
        for each in argument:
            if isinstance(each, Reference):
                yield each.name
    for block in operation.blocks:
        yield from _mentioned_in(block)


def _mentioned_in(block: Block) -> Iterator[str]:
    yield from block.outputs
    for inner in block.operations:
        yield from _mentioned(inner)


def _refuse_missing(function: Function, kernels: Mapping[str, Kernel]) -> None:
    missing: Counter[str] = Counter()
    for operation in _walk(function.block.operations):
        if operation.type == "const":
            continue
        if operation.type not in kernels:
            missing[_describe(operation)] += 1
            continue
        accepted = {parameter.name for parameter in parameters(kernels[operation.type])}
        for key in sorted(operation.inputs.keys() - accepted):
            missing[f"{operation.type} with the argument {key!r}"] += 1
    if missing:
        listed = ", ".join(f"{name} ({count} times)" if count > 1 else name for name, count in sorted(missing.items()))
        raise UnsupportedError(f"function {function.name!r} needs operators that this runtime lacks: {listed}")


def _describe(operation: Operation) -> str:
    named = operation.inputs.get("class_name", ())
    if operation.type == "custom_layer" and named and isinstance(named[0], Constant):
        return f"custom_layer {named[0].value}"
    return operation.type or "an operator without a type"


def _walk(operations: Iterable[Operation]) -> Iterator[Operation]:
    for operation in operations:
        yield operation
        for block in operation.blocks:
            yield from _walk(block.operations)
