"""What an asset says of itself, as plain data: functions, operators, constants and their storage."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from coreml_runtime.coreai.asset import open_asset
from coreml_runtime.coreai.bytecode import RawOperation
from coreml_runtime.coreai.constants import stored_bytes
from coreml_runtime.coreai.dialect import Blob
from coreml_runtime.coreai.graphs import Graph, Program, count_operators, operator, walk
from coreml_runtime.coreai.loading import read_interface
from coreml_runtime.features import Interface
from coreml_runtime.ops.context import TensorType


@dataclass(frozen=True, kw_only=True, slots=True)
class ConstantInfo:
    """A constant of a function: `name` is that of its resource or its place, `bytes` what it takes in the file.

    `used_by` are the operators that read it, through a decompression too: ("blockwise_shift_scale", "conv2d").
    """

    name: str
    function: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    used_by: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Description:
    """An asset. `operators` are counted over all functions as the dialect spells them ("broadcasting_add").

    `storage` counts the elements of constants by their type; `private` are the functions that others invoke.
    """

    path: Path
    producer: str
    metadata: Mapping[str, object]
    functions: Mapping[str, Interface]
    private: tuple[str, ...]
    operators: Mapping[str, int]
    storage: Mapping[str, int]
    constants: tuple[ConstantInfo, ...]


def describe_asset(path: str | Path) -> Description:
    """Read the asset at `path`; nothing is planned or computed. Raises as `load` does."""
    asset = open_asset(path)
    program = asset.program
    constants = tuple(each for graph in program.graphs.values() for each in _constants(program, graph))
    storage: Counter[str] = Counter()
    for each in constants:
        storage[each.dtype] += math.prod(each.shape)
    return Description(
        path=asset.path,
        producer=program.container.producer,
        metadata=asset.metadata,
        functions={name: read_interface(graph) for name, graph in program.entries.items()},
        private=tuple(name for name, graph in program.graphs.items() if graph.private),
        operators=dict(sorted(count_operators(program).items())),
        storage=dict(sorted(storage.items())),
        constants=constants,
    )


def _constants(program: Program, graph: Graph) -> Iterator[ConstantInfo]:
    operations = list(walk(graph.block))
    readers = _readers(operations)
    for place, operation in enumerate(operations):
        if operator(operation) != "constant" or len(operation.results) != 1:
            continue
        type_ = program.type(operation.results[0])
        if not isinstance(type_, TensorType):
            continue
        value = program.attributes(operation)["value"]
        place_name = f"{graph.name}/constant_{place}"
        yield ConstantInfo(
            name=program.container.resources[value.resource].name if isinstance(value, Blob) else place_name,
            function=graph.name,
            dtype=type_.dtype,
            shape=tuple(size or 0 for size in type_.shape),
            bytes=stored_bytes(program, value),
            used_by=tuple(sorted(readers.get(operation.results[0].number, ()))),
        )


_PASSED_ON = frozenset(
    {
        "blockwise_shift_scale", "lut_to_dense", "build_sparse_with_bitmask", "lut_to_sparse_with_bitmask",
        "sparse_with_bitmask_to_dense", "dequantize", "transpose",
    }
)  # fmt: skip
"""Operators whose readers count as readers of what goes in."""


def _readers(operations: list[RawOperation]) -> dict[int, set[str]]:
    """The operators that read each value. They stand behind it, so going backwards finds all."""
    readers: dict[int, set[str]] = {}
    for operation in reversed(operations):
        name = operator(operation)
        found = {name}
        if name in _PASSED_ON:
            found = found.union(*(readers.get(result.number, set()) for result in operation.results))
        for operand in operation.operands:
            readers.setdefault(operand.number, set()).update(found)
    return readers
