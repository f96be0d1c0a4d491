"""A specification without the weights inside it, so that a loaded neural network does not hold them twice."""

from __future__ import annotations

from typing import Any

from builder.runtime.proto import messages

_NETWORKS = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")


def outline(specification: Any) -> Any:
    """A Model message with the same interface, stages and layers, whose neural network layers have no parameters.

    An ML program keeps its weights in files, so it is returned as it is. protobuf frees a message as a whole: weights
    that are cleared in place would stay in memory.
    """
    kind = specification.WhichOneof("Type")
    if kind not in _NETWORKS and not kind.lower().startswith("pipeline"):
        return specification
    bare = messages("Model_pb2").Model(specificationVersion=specification.specificationVersion)
    bare.description.CopyFrom(specification.description)
    if kind in _NETWORKS:
        getattr(bare, kind).SetInParent()
        _copy_layers(getattr(specification, kind), getattr(bare, kind))
        return bare
    source, target = getattr(specification, kind), getattr(bare, kind)
    stages = (source, target) if kind == "pipeline" else (source.pipeline, target.pipeline)
    target.SetInParent()
    for stage in stages[0].models:
        stages[1].models.add().CopyFrom(outline(stage))
    return bare


def _copy_layers(source: Any, target: Any) -> None:
    for layer in source.layers:
        kind = layer.WhichOneof("layer")
        copy = target.layers.add(name=layer.name, input=layer.input, output=layer.output)
        if kind is not None:
            getattr(copy, kind).SetInParent()
        if kind == "branch":
            _copy_layers(layer.branch.ifBranch, copy.branch.ifBranch)
            _copy_layers(layer.branch.elseBranch, copy.branch.elseBranch)
        elif kind == "loop":
            _copy_layers(layer.loop.bodyNetwork, copy.loop.bodyNetwork)
            _copy_layers(layer.loop.conditionNetwork, copy.loop.conditionNetwork)
