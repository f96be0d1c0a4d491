"""Makes an asset ready to predict."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from coreml_runtime import mapping
from coreml_runtime.coreai.asset import Asset, open_asset
from coreml_runtime.coreai.dialect import GraphType, HandleType, TokenType, UnknownType
from coreml_runtime.coreai.fusion import KERNELS, fuse
from coreml_runtime.coreai.graphs import Graph, Port
from coreml_runtime.coreai.ops import operators
from coreml_runtime.coreai.translate import place_names, translate
from coreml_runtime.dtypes import Precision
from coreml_runtime.errors import InputError, UnsupportedError
from coreml_runtime.features import ArrayFeature, Feature, Interface
from coreml_runtime.mlprogram import ProgramNetwork
from coreml_runtime.model import Model
from coreml_runtime.ops.context import TensorType
from coreml_runtime.ops.table import merge
from coreml_runtime.plan import Plan, make_plan
from coreml_runtime.program import Function

KIND = "aimodel"


def load_asset(path: str | Path, function: str | None, precision: Precision) -> Model:
    """The model of an `.aimodel`; `specification` of the result is the Asset."""
    asset = open_asset(path)
    graph = _choose(asset, function)
    translated, renamed = translate(asset.program, graph, operators())

    def release() -> None:
        mapping.release(asset.content)

    def plan(function: Function) -> Plan:
        return make_plan(function, merge(operators(), KERNELS), precision, release=release)

    fused = fuse(translated)
    return Model(
        path=asset.path,
        kind=KIND,
        function=graph.name,
        interface=read_interface(graph),
        network=ProgramNetwork(
            plan=plan(fused),
            detailed=None if fused is translated else lru_cache(lambda: plan(translated)),
            renamed=renamed,
        ),
        specification=asset,
    )


def read_function(path: str | Path, function: str | None = None) -> Function:
    """A function as its operations, nothing joined; constants bear the names of their resources. Raises as `load`."""
    asset = open_asset(path)
    return translate(asset.program, _choose(asset, function), operators())[0]


def read_names(path: str | Path, function: str | None = None) -> list[tuple[str, ...]]:
    """What the runtime calls the results of each operation that stands in a function itself, in the file's order."""
    asset = open_asset(path)
    return place_names(asset.program, _choose(asset, function), operators())


def _choose(asset: Asset, function: str | None) -> Graph:
    """The function asked for; without one, `main` or the only one."""
    entries = asset.program.entries
    if function is None and len(entries) == 1:
        return next(iter(entries.values()))
    chosen = "main" if function is None else function
    if chosen not in entries:
        listed = ", ".join(entries)
        raise InputError(
            f"{asset.path}: no function {chosen!r}; the model has {listed}"
            if function
            else f"{asset.path}: the model has the functions {listed}: choose one"
        )
    return entries[chosen]


def read_interface(graph: Graph) -> Interface:
    """What a function declares. States are the inputs that are handles; images are refused."""
    inputs: dict[str, Feature] = {}
    states: dict[str, ArrayFeature] = {}
    for port in graph.inputs:
        if isinstance(port.type, HandleType):
            states[port.name] = array_feature(port.name, port.type.inner)
        else:
            inputs[port.name] = array_feature(port.name, _tensor(port, "input"))
    outputs: Mapping[str, Feature] = {
        port.name: array_feature(port.name, _tensor(port, "output"))
        for port in graph.outputs
        if not isinstance(port.type, TokenType)
    }
    return Interface(
        inputs=inputs, outputs=dict(outputs), states=states, predicted_feature="", predicted_probabilities=""
    )


def array_feature(name: str, declared: TensorType) -> ArrayFeature:
    """A tensor as a feature: an unknown size is 1 or more."""
    unknown = None in declared.shape
    return ArrayFeature(
        name=name,
        dtype=declared.dtype,
        shape=tuple(1 if size is None else size for size in declared.shape),
        ranges=tuple((1, None) if size is None else (size, size) for size in declared.shape) if unknown else (),
        scalar=not declared.shape,
    )


def _tensor(port: Port, kind: str) -> TensorType:
    type_: GraphType = port.type
    if not isinstance(type_, TensorType):
        name = type_.text if isinstance(type_, UnknownType) else type(type_).__name__
        raise UnsupportedError(f"{kind} {port.name!r}: a value of {name}; tensors are supported")
    return type_
