"""Which module of the source each operator of a Core AI program belongs to, as far as the names of its weights say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from coreml_runtime.coreai.loading import read_function, read_names
from coreml_runtime.ops.context import TensorType
from coreml_runtime.program import Operation, Reference

LEAST = 10
"""Constants of floats with fewer elements stay unnamed in the program, as in Core ML."""

PARTS = ("data", "scale", "zero", "table", "indices", "mask", "values")
"""What compression puts behind a weight's name."""
STORAGE = ("lut_to_dense", "blockwise_shift_scale", "build_sparse_with_bitmask", "sparse_with_bitmask_to_dense")
"""Operators that make a weight of what is stored."""
RELAYING = (*STORAGE, "transpose", "reshape", "cast")
"""Operators of a weight that leave it what it is."""

_AS_RECIPES = {
    "conv2d": "conv",
    "conv3d": "conv",
    "conv_transpose2d": "conv_transpose",
    "conv_transpose3d": "conv_transpose",
    "batch_matmul": "matmul",
    "divide": "real_div",
    "maximum": "relu",
    "minimum": "relu6",
    "max_pool_2d": "max_pool",
    "max_pool_3d": "max_pool",
    "sum_pool_2d": "avg_pool",
    "sum_pool_3d": "avg_pool",
    "scan": "cumsum",
    "reduce_product": "reduce_prod",
    "interpolate": "resize",
}
"""How `precision` calls what the dialect has under another name; others are called alike."""


def weight_name(resource: str) -> str:
    """The name of the weight that a resource belongs to."""
    stem, _, part = resource.rpartition(".")
    return stem if part in PARTS and stem else resource


def recipe_type(operator: str) -> str:
    """The type by which a recipe can name an operator of the dialect."""
    return _AS_RECIPES.get(operator, operator)


def operator_modules(asset: Path) -> dict[str, str]:
    """By the name that the runtime gives an operator's value, the path of the module whose weight it computes with."""
    of_weights: dict[str, str] = {}
    found: dict[str, str] = {}
    for operation in read_function(asset).block.operations:
        outputs = [output.name for output in operation.outputs]
        if operation.type == "const":
            path = weight_name(operation.name).rpartition(".")[0]
            of_weights |= dict.fromkeys(outputs if path else (), path)
            continue
        names = [
            each.name for argument in operation.inputs.values() for each in argument if isinstance(each, Reference)
        ]
        path = next((of_weights[name] for name in names if name in of_weights), "")
        if path:
            is_weight = operation.type in RELAYING and names[0] in of_weights
            (of_weights if is_weight else found).update(dict.fromkeys(outputs, path))
    return found


def operator_origins(asset: Path, origins: Sequence[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """By the name that the runtime gives an operator's value, the entry of `origins` (`conversion.Converted.origins`).

    What an invoked function computes stands in front of its result, and belongs to whom that belongs to.
    """
    if not origins:
        return {}
    places = read_names(asset)
    placed = {name for names in places for name in names}
    known = {name: origin for names, origin in zip(places, origins, strict=True) for name in names if any(origin)}
    found: dict[str, tuple[str, str]] = {}
    waiting: list[str] = []
    for operation in read_function(asset).block.operations:
        names = [output.name for output in operation.outputs]
        if operation.type == "const":
            continue
        origin = next((known[name] for name in names if name in known), None)
        waiting += names
        if origin is not None:
            found |= dict.fromkeys(waiting, origin)
            waiting.clear()
        elif not placed.isdisjoint(names):
            waiting.clear()
    return found


def weight_users(asset: Path) -> dict[str, frozenset[str]]:
    """By name of each weight of an uncompressed asset, the values that are computed with it, as the runtime names them.

    Operators that only re-lay a weight pass it on.
    """
    made_of: dict[str, str] = {}
    users: dict[str, set[str]] = {}
    for operation in read_function(asset).block.operations:
        outputs = [output.name for output in operation.outputs]
        if operation.type == "const":
            if _is_weight(operation):
                made_of |= dict.fromkeys(outputs, operation.name)
                users.setdefault(operation.name, set())
            continue
        names = list(mentioned(operation))
        weights = [made_of[name] for name in names if name in made_of]
        if weights and operation.type in RELAYING and names[0] in made_of:
            made_of |= dict.fromkeys(outputs, weights[0])
        else:
            for weight in weights:
                users[weight] |= set(outputs)
    return {name: frozenset(values) for name, values in users.items() if values}


def _is_weight(constant: Operation) -> bool:
    """Whether compression takes a constant: floats with two axes or more, stored under a name."""
    (output,) = constant.outputs
    declared = output.type
    if not isinstance(declared, TensorType) or declared.dtype not in ("fp16", "fp32"):
        return False
    return len(declared.shape) > 1 and math.prod(size or 1 for size in declared.shape) >= LEAST


def mentioned(operation: Operation) -> Iterator[str]:
    """The values that an operator reads, those of the blocks in it included."""
    for argument in operation.inputs.values():
        yield from (each.name for each in argument if isinstance(each, Reference))
    for block in operation.blocks:
        for inner in block.operations:
            yield from mentioned(inner)
