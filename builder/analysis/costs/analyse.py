"""What each function of an artifact costs, from its file alone: nothing is executed, weights are not read."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.analysis.costs.graph import Graph, Step
from builder.analysis.costs.order import peak
from builder.analysis.costs.program import read_graph
from builder.analysis.costs.values import Shape
from builder.artifacts.costs import Costs, OperatorCost
from coreml_runtime.coreai.asset import is_asset, open_asset
from coreml_runtime.errors import RuntimeFailure
from coreml_runtime.features import ArrayFeature, Feature, ImageFeature, Interface, read_interface
from coreml_runtime.ops import operators
from coreml_runtime.package import Package, open_package
from coreml_runtime.reader import read_function
from coreml_runtime.weights import small_weights

_STAGES = frozenset({"pipeline", "pipelineClassifier", "pipelineRegressor"})


def analyse_costs(path: Path, named: Collection[str] | None = None) -> tuple[Costs, ...]:
    """The costs of each function of the artifact at `path`, those of an artifact without functions under no name.

    `named` are the operators that rules of the lint name, None where no rule reads this format. What cannot be counted
    is said, not raised; RuntimeFailure where the file cannot be read at all.
    """
    return tuple(_summed(function, parts, named) for function, parts in _functions(path))


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One program: of a pipeline there are several, which run one after the other."""

    graph: Graph | None
    sizes: tuple[str, ...] = ()
    reason: str = ""
    """The reason, where the costs could not be counted."""


def _functions(path: Path) -> Iterator[tuple[str, tuple[_Part, ...]]]:
    if is_asset(path):
        yield from _assets(path)
        return
    package = open_package(path)
    described = package.specification.description.functions
    if described:
        for entry in described:
            yield entry.name, (_program(package, entry.name, read_interface(entry)),)
    else:
        yield "", tuple(_parts(package))


def _parts(package: Package) -> Iterator[_Part]:
    specification = package.specification
    kind = specification.WhichOneof("Type")
    if kind in _STAGES:
        message = getattr(specification, kind)
        for stage in getattr(message, "pipeline", message).models:
            yield from _parts(replace(package, specification=stage))
    elif kind == "mlProgram":
        yield _program(package, "main", read_interface(specification.description))
    elif kind.startswith("neuralNetwork"):
        from builder.analysis.costs.network import read_network_graph

        interface = read_interface(specification.description)
        shapes = {name: shape for name, shape in _shapes(interface).items() if shape is not None}
        yield _read(interface, lambda: read_network_graph(specification, package.content, shapes))
    elif kind != "nonMaximumSuppression":
        yield _Part(graph=None, reason=f"a model of kind {kind} has no operators")


def _program(package: Package, name: str, interface: Interface) -> _Part:
    def read() -> Graph:
        message = package.specification.mlProgram.functions[name]
        return read_graph(read_function(name, message, small_weights(package)), operators(), _known(interface))

    return _read(interface, read)


def _assets(path: Path) -> Iterator[tuple[str, tuple[_Part, ...]]]:
    from coreml_runtime.coreai import loading
    from coreml_runtime.coreai.ops import operators as kernels

    entries = open_asset(path).program.entries
    for name, entry in entries.items():

        def read(name: str = name, interface: Interface | None = None) -> Graph:
            function = loading.read_function(path, name)
            return read_graph(function, kernels(), _known(interface) if interface else {})

        try:
            interface = loading.read_interface(entry)
        except RuntimeFailure as error:
            part = _Part(graph=None, reason=str(error))
        else:
            part = _read(interface, lambda read=read, interface=interface: read(interface=interface))
        yield name if len(entries) > 1 else "", (part,)


def _read(interface: Interface, read: Any) -> _Part:
    try:
        return _Part(graph=read(), sizes=tuple(_flexible(interface)))
    except RuntimeFailure as error:
        return _Part(graph=None, reason=str(error))


def _known(interface: Interface) -> dict[str, Shape]:
    return {name: shape for name, shape in _shapes(interface).items() if shape is not None}


def _shapes(interface: Interface) -> dict[str, Shape | None]:
    """By input, its default shape; None of what is not a tensor."""
    return {name: _shape(feature) for name, feature in {**interface.inputs, **interface.states}.items()}


def _shape(feature: Feature) -> Shape | None:
    if isinstance(feature, ImageFeature):
        return 1, 1 if feature.color.startswith("GRAY") else 3, feature.height, feature.width
    return feature.shape if isinstance(feature, ArrayFeature) else None


def _flexible(interface: Interface) -> Iterator[str]:
    """Of inputs whose size the app chooses, the size that is counted with, in words."""
    for name, feature in interface.inputs.items():
        if isinstance(feature, ImageFeature):
            if feature.enumerated or feature.width_range:
                yield f"{name}: {feature.width} x {feature.height}"
        elif isinstance(feature, ArrayFeature):
            wide = any(high is None or low != high for low, high in feature.ranges)
            if wide or feature.enumerated:
                yield f"{name}: {' x '.join(map(str, feature.shape))}"


def _summed(function: str, parts: tuple[_Part, ...], named: Collection[str] | None) -> Costs:
    """All programs of a function together: work and bytes are added, the memory is that of the neediest."""
    reasons = [part.reason for part in parts if part.graph is None]
    graphs = [part.graph for part in parts if part.graph is not None]
    if reasons or not graphs:
        return Costs(function=function, not_counted="; ".join(reasons) or "there is no program in it")
    every = [list(_walk(graph.steps)) for graph in graphs]
    executed = [(step, times) for steps in every for step, times in steps]
    operators_ = tuple(
        _row(step, times, graph)
        for graph, steps in zip(graphs, every, strict=True)
        for step, times in steps
        if not step.inner
    )
    macs = sum(row.total for row in operators_)
    peaks = [peak(graph) for graph in graphs]
    return Costs(
        function=function,
        sizes=tuple(text for part in parts for text in part.sizes),
        macs=macs,
        weights_stored=_each_once(step.stored for step, _ in executed),
        weights_computed=_each_once(step.computed for step, _ in executed),
        activations=sum(_inputs(graph) for graph in graphs) + sum(row.times * row.written for row in operators_),
        peak=max(each.least for each in peaks),
        peak_in_file_order=max(each.in_file_order for each in peaks),
        peak_is_least=all(each.proven for each in peaks),
        states=sum(graph.states for graph in graphs),
        operators=operators_,
        unknown=sum(row.macs is None for row in operators_),
        open_loops=sum(step.is_open for step, _ in executed),
        clear_share=_clear(operators_, macs, named),
    )


def _each_once(given: Any) -> int:
    found: dict[str, int] = {}
    for sizes in given:
        found |= sizes
    return sum(found.values())


def _inputs(graph: Graph) -> int:
    return sum(graph.bytes.get(name, 0) for name in graph.inputs)


def _walk(steps: tuple[Step, ...], times: int = 1) -> Iterator[tuple[Step, int]]:
    """Every step with how often it is executed; those inside of a loop before it."""
    for step in steps:
        yield from _walk(step.inner, times * step.turns)
        yield step, times


def _row(step: Step, times: int, graph: Graph) -> OperatorCost:
    sizes = {} if step.is_view else graph.bytes
    return OperatorCost(
        name=step.name,
        operator=step.kind,
        macs=step.macs,
        weights_stored=sum(step.stored.values()),
        weights_computed=sum(step.computed.values()),
        read=sum(sizes.get(name, 0) for name in step.reads),
        written=sum(sizes.get(name, 0) for name in step.writes),
        times=times,
    )


def _clear(rows: tuple[OperatorCost, ...], macs: int, named: Collection[str] | None) -> float | None:
    """The share of the work in operators that no rule names."""
    if named is None or not macs:
        return None
    return sum(row.total for row in rows if row.name not in named) / macs
