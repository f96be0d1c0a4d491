"""An ML program as a network: reads one function of a package, plans it, runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import torch

from coreml_runtime.binding import Known
from coreml_runtime.blob import WeightFile, open_weights
from coreml_runtime.dtypes import Precision
from coreml_runtime.errors import InputError, ModelError
from coreml_runtime.executor import Execution, Frame, execute, finisher, matches
from coreml_runtime.features import ArrayFeature, ImageFeature, Interface
from coreml_runtime.loops import LOOPS, fuse_loops
from coreml_runtime.ops import operators
from coreml_runtime.ops.context import TensorType
from coreml_runtime.ops.table import Kernel, Value
from coreml_runtime.package import Package, resolve
from coreml_runtime.plan import Plan, make_plan
from coreml_runtime.program import Function, Named, StateType
from coreml_runtime.reader import Weights, read_function
from coreml_runtime.replays import Replays


@dataclass(frozen=True, kw_only=True)
class ProgramNetwork:
    """A planned function. Random operators without a seed draw from `generator`, one prediction after another.

    `detailed` makes a plan that computes every value of the file, where `plan` has loops as one operation.
    `renamed` holds what a value that the plan returns is called outside, where that is not the value's name.
    """

    plan: Plan
    detailed: Callable[[], Plan] | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    generator: torch.Generator = field(default_factory=torch.Generator)
    replays: Replays = field(default_factory=Replays)

    def run(
        self, inputs: dict[str, object], *, states: dict[str, torch.Tensor], record: dict[str, object] | None
    ) -> dict[str, Value]:
        """Outputs by name."""
        plan = self.plan if record is None or self.detailed is None else self.detailed()
        frame = self.frame(plan, inputs, states)
        if record is not None:
            record.update((name, frame[slot]) for name, slot in plan.names.items() if frame[slot] is not None)
        execution = Execution(generator=self.generator, states=states, record=record)
        if record is None and plan.replays:
            results = self.replays.execute(plan, frame, execution)
        else:
            results = execute(plan.block, frame, execution)
        borrowed = _storages(inputs.values()) | _storages(states.values()) | _constants(plan)
        owned = (value.clone() if _storages((value,)) & borrowed else value for value in results)
        return dict(zip(self.named(plan.outputs), owned, strict=True))

    def named(self, values: Iterable[str]) -> tuple[str, ...]:
        """What returned values are called outside."""
        return tuple(self.renamed.get(value, value) for value in values)

    def frame(self, plan: Plan, inputs: Mapping[str, object], states: Mapping[str, torch.Tensor]) -> Frame:
        """The slots of `plan` with the inputs and states in theirs."""
        frame: Frame = [None] * plan.slots
        for entry, slot in plan.inputs:
            if isinstance(entry.type, StateType):
                frame[slot] = states[entry.name]
                continue
            if entry.name not in inputs:
                raise InputError(f"input {entry.name!r} is missing: it is optional but has no default")
            frame[slot] = self._enter(entry, inputs[entry.name])
        return frame

    def _enter(self, entry: Named, value: object) -> Value:
        """An input in the type that holds it."""
        finish = finisher(entry.type, self.plan.precision, rounds=True)
        try:
            return value if finish is None else finish(value)
        except ValueError as error:
            raise InputError(f"input {entry.name!r}: {error}") from error

    def allows(self, feature: ArrayFeature, shape: tuple[int, ...]) -> bool:
        """ML programs take exactly what is declared."""
        return feature.allows(shape)


def compile_program(
    package: Package, function: str, interface: Interface, precision: Precision, *,
    kernels: dict[str, Kernel] | None = None,
) -> ProgramNetwork:  # fmt: skip
    """Read, check and plan the function; `kernels` takes the place of the operators that have other ones there."""
    files: dict[str, WeightFile] = {}
    read = read_program(package, function, files)
    _match(interface, read, package)

    def release() -> None:
        for file in files.values():
            file.release()

    known = operators() | LOOPS | (kernels or {})

    def plan(planned: Function) -> Plan:
        return make_plan(planned, known, precision, release=release)

    fused = fuse_loops(read, rounds=precision != "fast")
    network = ProgramNetwork(plan=plan(fused), detailed=None if fused is read else lru_cache(lambda: plan(read)))
    release()
    return network


def read_program(package: Package, function: str, files: dict[str, WeightFile] | None = None) -> Function:
    """One function of the package as the file has it; `files` takes the weight files that it opens."""
    program = package.specification.mlProgram
    if function not in program.functions:
        listed = ", ".join(sorted(program.functions)) or "none"
        raise ModelError(f"{package.path}: the program has no function {function!r}, only {listed}")
    return read_function(function, program.functions[function], _weights(package, {} if files is None else files))


def _constants(plan: Plan) -> set[int]:
    """Memory of outputs that the file holds."""
    return _storages(each.value for each in plan.block.outputs if isinstance(each, Known))


def _storages(values: Iterable[object]) -> set[int]:
    """Addresses of the memory behind tensors: what a caller gets must not be memory that somebody else uses."""
    return {value.untyped_storage().data_ptr() for value in values if isinstance(value, torch.Tensor)}


def _weights(package: Package, files: dict[str, WeightFile]) -> Weights:
    def find(file_name: str, offset: int, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
        if file_name not in files:
            files[file_name] = open_weights(resolve(package, file_name))
        return files[file_name].tensor(offset=offset, dtype=dtype, shape=shape)

    return find


def _match(interface: Interface, function: Function, package: Package) -> None:
    """The description and the program must agree on names, and on shapes that do not change."""
    declared = interface.inputs.keys() | interface.states.keys()
    taken = {entry.name: entry.type for entry in function.inputs}
    if declared != taken.keys():
        raise ModelError(f"{package.path}: describes the inputs {sorted(declared)}, the program takes {sorted(taken)}")
    absent = sorted(interface.outputs.keys() - set(function.block.outputs))
    if absent:
        raise ModelError(f"{package.path}: describes outputs that the program does not return: {', '.join(absent)}")
    for name, feature in (interface.inputs | interface.states).items():
        described: tuple[int, ...] = ()
        if isinstance(feature, ArrayFeature) and not (feature.enumerated or feature.ranges):
            described = feature.shape
        elif isinstance(feature, ImageFeature) and not (feature.enumerated or feature.width_range):
            described = (1, 1 if feature.color.startswith("GRAY") else 3, feature.height, feature.width)
        type_ = taken[name]
        tensor = type_.wrapped if isinstance(type_, StateType) else type_
        if described and not (isinstance(tensor, TensorType) and matches(described, tensor.shape)):
            raise ModelError(f"{package.path}: describes {name!r} as {described}, the program declares {tensor}")
