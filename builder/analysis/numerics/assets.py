"""The operators of a Core AI program, and which of two programs of one model are counterparts: they have no names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from builder.analysis.numerics.graph import Node
from builder.backends.coreai.modules import STORAGE, mentioned, recipe_type, weight_name
from coreml_runtime.coreai.loading import read_function
from coreml_runtime.ops.context import TensorType
from coreml_runtime.program import Function, Operation

_FLOATS = ("fp16", "fp32", "bf16")
_PRODUCT = "batch_matmul"


def asset_nodes(path: Path) -> tuple[Node, ...]:
    """The operators of the `main` function in their order; what belongs to a compressed weight bears its name."""
    weights: dict[str, str] = {}
    constants: set[str] = set()
    nodes = []
    for operation in read_function(path).block.operations:
        names = tuple(mentioned(operation))
        outputs = tuple(output.name for output in operation.outputs)
        kind, stored = recipe_type(operation.type), None
        if operation.type == _PRODUCT and not constants.isdisjoint(names):
            kind = "linear"  # recipes call a product with a weight so
        if constants.issuperset(names):
            constants.update(outputs)
        if operation.type == "const":
            weights[outputs[0]] = weight_name(operation.name)
        elif operation.type in STORAGE:
            stored = next((weights[name] for name in names if name in weights), None)
            weights |= {name: stored for name in outputs if stored is not None}
        nodes.append(Node(type=kind, outputs=outputs, inputs=frozenset(names), stored=stored))
    return tuple(nodes)


def counterparts(artifact: Path, reference: Path) -> Mapping[str, str]:
    """By a value of `artifact`, the value of `reference` that computes the same; both were made of one model.

    Operators are aligned by type and size of their results, in order, with casts between floats and the storage of
    weights left out; such a cast has the counterpart of what it casts.
    """
    here, there = _Program.of(read_function(artifact)), _Program.of(read_function(reference))
    found = {name: name for name in here.inputs if name in there.inputs}
    matcher = SequenceMatcher(None, here.signatures(), there.signatures(), autojunk=False)
    for block in matcher.get_matching_blocks():
        mine, theirs = here.computing[block.a : block.a + block.size], there.computing[block.b : block.b + block.size]
        for one, other in zip(mine, theirs, strict=True):
            found |= {a.name: b.name for a, b in zip(one.outputs, other.outputs, strict=True)}
    for operation in here.casts:
        (source,) = mentioned(operation)
        if source in found:
            found[operation.outputs[0].name] = found[source]
    return found


def halved(artifact: Path, reference: Path) -> frozenset[str]:
    """The values of `reference` whose counterparts in `artifact` are in half precision."""
    pairs = counterparts(artifact, reference)
    computing = _Program.of(read_function(artifact)).computing
    outputs = [output for operation in computing for output in operation.outputs if output.name in pairs]
    return frozenset(
        pairs[each.name] for each in outputs if isinstance(each.type, TensorType) and each.type.dtype == "fp16"
    )


@dataclass(frozen=True, kw_only=True)
class _Program:
    """The operators that compute something, and the casts between floats."""

    inputs: frozenset[str]
    computing: Sequence[Operation]
    casts: Sequence[Operation]

    @classmethod
    def of(cls, function: Function) -> _Program:
        """Sort the operators of a function."""
        types = {entry.name: entry.type for entry in function.inputs}
        computing, casts, weights = [], [], set[str]()
        for operation in function.block.operations:
            names = list(mentioned(operation))
            types |= {output.name: output.type for output in operation.outputs}
            outputs = {output.name for output in operation.outputs}
            if operation.type in (*STORAGE, "const") or (names and weights.issuperset(names)):
                weights |= outputs
            elif operation.type == "cast" and all(_is_float(types.get(name)) for name in (*names, *outputs)):
                casts.append(operation)
            else:
                computing.append(operation)
        return cls(inputs=frozenset(entry.name for entry in function.inputs), computing=computing, casts=casts)

    def signatures(self) -> list[tuple[object, ...]]:
        """What counterparts have in common."""
        return [
            (each.type, *(entry.type.shape if isinstance(entry.type, TensorType) else None for entry in each.outputs))
            for each in self.computing
        ]


def _is_float(declared: object) -> bool:
    return isinstance(declared, TensorType) and declared.dtype in _FLOATS
