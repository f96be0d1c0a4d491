"""Watches predictions: how many a test made, of which operators, and which arrays came out of them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

FLOAT16 = 10
"""MIL.proto, DataType.FLOAT16."""

_NETWORKS = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")


@dataclass(kw_only=True)
class Seen:
    """What the running test did so far. `outputs` keeps (array, precision) alive, so that identities stay unique."""

    predictions: int = 0
    operators: set[str] = field(default_factory=set)
    outputs: list[tuple[Any, str]] = field(default_factory=list)

    def precision_of(self, value: Any) -> str | None:
        """Either fp16 or fp32 for an array that a prediction returned, or a view of one; None for any other."""
        for array, precision in self.outputs:
            if value is array or (isinstance(value, np.ndarray) and value.base is array):
                return precision
        return None


def block_operators(block: Any, found: set[str]) -> bool:
    """Add the operators of a MIL block; whether any value in it is fp16."""
    half = False
    for operation in block.operations:
        found.add(operation.type)
        half |= any(output.type.tensorType.dataType == FLOAT16 for output in operation.outputs)
        for inner in operation.blocks:
            half |= block_operators(inner, found)
    return half


def network_layers(network: Any, found: set[str]) -> None:
    """Add the layer kinds of a neural network, prefixed against operators of that name."""
    for layer in network.layers:
        kind = layer.WhichOneof("layer")
        found.add(f"nn:{kind}")
        if kind == "branch":
            network_layers(layer.branch.ifBranch, found)
            network_layers(layer.branch.elseBranch, found)
        elif kind == "loop":
            network_layers(layer.loop.bodyNetwork, found)
            network_layers(layer.loop.conditionNetwork, found)


def describe(specification: Any) -> tuple[set[str], str]:
    """Operators or layers of a model, and the precision that its values are declared in."""
    found: set[str] = set()
    half = False
    kind = specification.WhichOneof("Type")
    if kind == "mlProgram":
        for function in specification.mlProgram.functions.values():
            for block in function.block_specializations.values():
                half |= block_operators(block, found)
    elif kind in _NETWORKS:
        network_layers(getattr(specification, kind), found)
    elif kind and kind.startswith("pipeline"):
        found.add(f"pipeline:{kind}")
        message = getattr(specification, kind)
        for stage in (message if kind == "pipeline" else message.pipeline).models:
            inner, precision = describe(stage)
            found |= inner
            half |= precision == "fp16"
    return found, "fp16" if half else "fp32"


class Watcher:
    """Wraps the runtime's proxy class; `seen` belongs to the test that runs."""

    def __init__(self) -> None:
        self.seen = Seen()

    def wrap(self, proxy: Any) -> None:
        """Count and remember every prediction of `proxy`."""
        original, watcher = proxy.predict, self

        def predict(self: Any, data: Any, state: Any = None) -> Any:
            result = original(self, data, state)
            if not hasattr(self, "_described"):
                self._described = describe(self.model.specification)
            found, precision = self._described
            watcher.seen.predictions += 1
            watcher.seen.operators |= found
            watcher.seen.outputs.extend((value, precision) for value in result.values())
            return result

        proxy.predict = predict
