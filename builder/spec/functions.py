"""Functions of one artifact: the recipe's model at several shapes, with one copy of the weights and of the states."""

from __future__ import annotations

from collections.abc import Mapping

from builder.spec import BuildSpec
from builder.spec.function import Function


def with_shapes(spec: BuildSpec, function: Function) -> BuildSpec:
    """The recipe of one function alone: its shapes in the inputs, which are fixed then."""
    inputs = {
        name: given.model_copy(update={"shape": list(function.shape[name]), "enumerated_shapes": None})
        if name in function.shape
        else given
        for name, given in spec.input.items()
    }
    return spec.model_copy(update={"input": inputs, "functions": {}})


def specs_by_function(spec: BuildSpec) -> Mapping[str, BuildSpec]:
    """The recipe of each function; of an artifact without functions its own, under an empty name."""
    return {name: with_shapes(spec, function) for name, function in spec.functions.items()} or {"": spec}


def labelled(name: str, function: str) -> str:
    """A stage or check of one function, for people and records: `parity.decode`."""
    return f"{name}.{function}" if function else name
