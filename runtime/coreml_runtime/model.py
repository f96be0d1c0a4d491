"""A loaded model: one interface over ML programs, neural networks, pipelines and Core AI assets."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from coreml_runtime.coreai.asset import is_asset
from coreml_runtime.dtypes import PRECISIONS, Precision, held
from coreml_runtime.errors import InputError, ModelError, UnsupportedError
from coreml_runtime.features import ArrayFeature, Feature, Interface, read_interface
from coreml_runtime.package import Package, open_package
from coreml_runtime.values import Allows, check_inputs, encode_outputs, to_numpy

if TYPE_CHECKING:
    from google.protobuf.message import Message

Intermediates = Iterable[str] | str
"""Names, one name, or "all"."""


class Network(Protocol):
    """What computes: an ML program's plan, a neural network, a pipeline."""

    def run(
        self, inputs: dict[str, object], *, states: dict[str, torch.Tensor], record: dict[str, object] | None
    ) -> dict[str, Any]:
        """Outputs by name from checked inputs by name; `record`, if given, takes every value computed on the way."""

    def allows(self, feature: ArrayFeature, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape may be passed for an input."""


class State:
    """The tensors that a model keeps between predictions, made by `Model.make_state`."""

    def __init__(self, features: Mapping[str, ArrayFeature], tensors: dict[str, torch.Tensor]) -> None:
        """Wrap the tensors, which predictions change in place."""
        self._features = dict(features)
        self.tensors = tensors

    def __repr__(self) -> str:
        return f"<state {self._features}>"

    def read_state(self, name: str) -> np.ndarray:
        """A copy of the state's value (fp16 as float32)."""
        value = self._find(name)
        array = to_numpy(value.to(torch.float32, copy=True) if value.is_floating_point() else value.clone())
        return array.reshape(()) if self._features[name].scalar else array

    def write_state(self, name: str, value: object) -> None:
        """Replace the state's value by one of the same shape."""
        tensor = self._find(name)
        try:
            new = torch.as_tensor(np.asarray(value))
        except (TypeError, ValueError) as error:
            raise InputError(f"state {name!r}: {tuple(tensor.shape)} numbers are expected: {error}") from error
        if new.shape != tensor.shape:
            raise InputError(f"state {name!r}: the shape is {tuple(new.shape)}, expected {tuple(tensor.shape)}")
        tensor.copy_(new.to(torch.float16) if self._features[name].dtype == "fp16" else new)

    def _find(self, name: str) -> torch.Tensor:
        if name not in self.tensors:
            raise InputError(f"no state {name!r}; the model has {', '.join(self.tensors) or 'none'}")
        return self.tensors[name]


@dataclass(frozen=True, kw_only=True, repr=False)
class Model:
    """A model that predicts. `inputs`, `outputs` and `states` are what the file declares, by name."""

    path: Path
    kind: str
    function: str | None
    interface: Interface
    network: Network
    specification: Message

    def __repr__(self) -> str:
        function = f", function {self.function!r}" if self.function not in (None, "main") else ""
        states = f", states {self.states}" if self.states else ""
        return f"<{self.kind} {self.path.name!r}{function}, inputs {self.inputs}, outputs {self.outputs}{states}>"

    @property
    def inputs(self) -> dict[str, Feature]:
        """The declared inputs by name."""
        return self.interface.inputs

    @property
    def outputs(self) -> dict[str, Feature]:
        """The declared outputs by name."""
        return self.interface.outputs

    @property
    def states(self) -> dict[str, ArrayFeature]:
        """The declared states by name."""
        return self.interface.states

    def make_state(self) -> State:
        """Fresh states, all zero."""
        tensors = {
            name: torch.zeros(feature.shape, dtype=held(feature.dtype, "half")) for name, feature in self.states.items()
        }
        return State(self.states, tensors)

    def predict(
        self, inputs: Mapping[str, object], *, state: State | None = None, intermediates: Intermediates | None = None
    ) -> dict[str, Any]:
        """Outputs by name. `inputs` are numpy arrays, torch tensors, numbers or PIL images, as the model declares them.

        `intermediates` adds inner values by their name in the program, or all of them, to what is returned.
        """
        _check_state(self.states, state)
        checked = check_inputs(self.inputs, inputs, allows=_allows(self.network))
        record: dict[str, object] | None = None if intermediates is None else {}
        with torch.inference_mode():
            values = self.network.run(checked, states={} if state is None else state.tensors, record=record)
        result = encode_outputs(self.outputs, values)
        if record is not None and intermediates is not None:
            result = _chosen(record, intermediates) | result
        return result


def load(path: str | Path, function: str | None = None, precision: Precision = "half") -> Model:
    """Load a `.mlpackage`, `.mlmodel` or `.aimodel` and make it ready to predict.

    `function` chooses one of a model that has several. `precision` says how fp16 values are computed: "half" in float32
    rounded to half after each operator, "fast" in float32 throughout, "native" in torch's float16.
    Raises ModelError (damaged), UnsupportedError (naming all that is missing).
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    with _paused_collector():
        if is_asset(Path(path)):
            from coreml_runtime.coreai.loading import load_asset

            return load_asset(path, function, precision)
        return build_model(open_package(path), function=function, precision=precision)


@contextmanager
def _paused_collector() -> Iterator[None]:
    """Keep Python's cyclic collector out of loading: one full pass costs 0.1 s and more, and finds nothing here."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def build_model(package: Package, *, function: str | None = None, precision: Precision = "half") -> Model:
    """The model of a parsed package."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    specification = package.specification
    kind: str = specification.WhichOneof("Type")
    chosen, interface = chosen_function(specification, kind, function, package.path)
    return Model(
        path=package.path,
        kind=kind,
        function=chosen,
        interface=interface,
        network=_network(package, kind, chosen, interface, precision),
        specification=specification,
    )


def _network(package: Package, kind: str, function: str | None, interface: Interface, precision: Precision) -> Network:
    network: Network
    if kind == "mlProgram":
        from coreml_runtime.mlprogram import compile_program

        network = compile_program(package, function or "main", interface, precision)
    elif kind in ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor"):
        from coreml_runtime.nn.network import compile_network

        network = compile_network(package.specification, package.content)
    elif kind in ("pipeline", "pipelineClassifier", "pipelineRegressor", "nonMaximumSuppression"):
        from coreml_runtime.pipeline import compile_pipeline

        network = compile_pipeline(package, precision)
    else:
        from coreml_runtime.tabular import KINDS, compile_tabular

        if kind not in KINDS:
            raise UnsupportedError(f"{package.path}: a model of kind {kind}")
        network = compile_tabular(package.specification)
    return network


def chosen_function(
    specification: Message, kind: str, function: str | None, path: Path
) -> tuple[str | None, Interface]:
    """The function to run and its interface."""
    description = specification.description
    if kind != "mlProgram":
        if function is not None:
            raise InputError(f"{path}: only ML programs have functions, this is a {kind}")
        return None, read_interface(description)
    if not description.functions:
        if function not in (None, "main"):
            raise InputError(f"{path}: no function {function!r}; the model has main")
        return "main", read_interface(description)
    by_name = {entry.name: entry for entry in description.functions}
    chosen = function or description.defaultFunctionName
    if chosen not in by_name:
        wrong = InputError if function else ModelError
        raise wrong(f"{path}: no function {chosen!r}; the model has {', '.join(by_name)}")
    return chosen, read_interface(by_name[chosen])


def _check_state(features: Mapping[str, ArrayFeature], state: State | None) -> None:
    """The state must be one that this model made, or one of a model with the same states."""
    if not features:
        return
    if state is None:
        raise InputError(f"the model keeps {', '.join(features)}: pass state=model.make_state()")
    if not isinstance(state, State):
        raise InputError(f"a state made by model.make_state() is expected, got {type(state).__name__}")
    shapes = {name: tuple(tensor.shape) for name, tensor in state.tensors.items()}
    if shapes != {name: feature.shape for name, feature in features.items()}:
        raise InputError(f"the state is another model's: it keeps {shapes}, this model {dict(features)}")


def _allows(network: Network) -> Allows:
    return lambda feature, shape: network.allows(feature, shape)


def _chosen(record: Mapping[str, object], names: Intermediates) -> dict[str, object]:
    wanted = list(record) if names == "all" else [names] if isinstance(names, str) else list(names)
    unknown = [name for name in wanted if name not in record]
    if unknown:
        near = get_close_matches(unknown[0], record)
        hint = f"did you mean {', '.join(near)}?" if near else 'intermediates="all" returns all by name'
        raise InputError(f"no intermediate value is named {', '.join(unknown)}; {hint}")
    return {name: to_numpy(value) if isinstance(value, torch.Tensor) else value for name, value in
            ((name, record[name]) for name in wanted)}  # fmt: skip
