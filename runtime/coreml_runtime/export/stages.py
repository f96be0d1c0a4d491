"""Which part of a file is exported: the function of a program, a network, or the networks of a pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from coreml_runtime.dtypes import Precision
from coreml_runtime.errors import UnsupportedError
from coreml_runtime.export.kernels import KERNELS
from coreml_runtime.export.networks import operator_names, run_layers, run_program
from coreml_runtime.export.pipelines import NETWORKS, PIPELINES, open_pipeline, stages_of
from coreml_runtime.export.staged import Staged
from coreml_runtime.export.storage import program_forms
from coreml_runtime.export.weights import precisions, weight_names
from coreml_runtime.features import ArrayFeature, Interface
from coreml_runtime.mlprogram import compile_program, read_program
from coreml_runtime.model import chosen_function
from coreml_runtime.nn.network import read_network
from coreml_runtime.nn.weights import recorded_forms
from coreml_runtime.package import Package, open_package


def open_stages(path: str | Path, function: str | None, precision: Precision) -> Staged:
    """Read the file; raises ModelError for a damaged one, UnsupportedError for what has no network."""
    package = open_package(path)
    return _staged(package, function, precision)


def _staged(package: Package, function: str | None, precision: Precision) -> Staged:
    specification = package.specification
    kind = specification.WhichOneof("Type")
    chosen, interface = chosen_function(specification, kind, function, package.path)
    if kind == "mlProgram":
        return _program(package, chosen or "main", interface, precision)
    if kind in NETWORKS:
        return _network(package, interface)
    if kind in PIPELINES:
        return open_pipeline(specification, str(package.path), lambda index: _stage(package, index, precision))
    raise UnsupportedError(f"{package.path}: a model of kind {kind} is not a network")


def _stage(package: Package, index: int, precision: Precision) -> Staged:
    """A stage of a pipeline as if it were a file."""
    path, specification = Path(f"{package.path}#{index}"), stages_of(package.specification)[index]
    part = Package(path=path, specification=specification, root=package.root, content=package.content)
    return _staged(part, None, precision)


def _program(package: Package, function: str, interface: Interface, precision: Precision) -> Staged:
    network = compile_program(package, function, interface, precision, kernels=KERNELS)
    forms = program_forms(read_program(package, function))
    message = package.specification.mlProgram.functions[function]
    return Staged(
        specification=package.specification,
        inputs=interface.inputs,
        declared=interface.outputs,
        states=interface.states,
        outputs=_outputs(interface),
        operators=tuple(operator_names(network)),
        run=lambda inputs, states, around: run_program(network, inputs, states, around),
        weights=weight_names(message),
        precisions=precisions(message),
        forms=tuple(forms),
    )


def _network(package: Package, interface: Interface) -> Staged:
    with recorded_forms() as forms:
        network = read_network(package.specification, package.content)
    network = replace(network, interface=_single(interface))
    return Staged(
        specification=package.specification,
        inputs=interface.inputs,
        declared=interface.outputs,
        states={},
        outputs=_outputs(interface, None if network.classes is None else network.classes.scores),
        operators=tuple(operator_names(network)),
        run=lambda inputs, _, around: run_layers(network, inputs, around),
        forms=tuple(forms),
    )


def _single(interface: Interface) -> Interface:
    """Outputs that are declared in double precision in single, in which a neural network computes."""
    outputs = {
        name: replace(each, dtype="fp32") if isinstance(each, ArrayFeature) and each.dtype == "fp64" else each
        for name, each in interface.outputs.items()
    }
    return replace(interface, outputs=outputs)


def _outputs(interface: Interface, scores: str | None = None) -> tuple[str, ...]:
    """Without the label of a classifier; its scores where it declares no probabilities."""
    names = [name for name in interface.outputs if name != interface.predicted_feature]
    if scores is not None and not interface.predicted_probabilities and scores not in names:
        names.append(scores)
    return tuple(names)
