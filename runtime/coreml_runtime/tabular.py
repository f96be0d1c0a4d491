"""The small models that pipelines put around a network: vectorising, scaling, linear regression and classification."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from coreml_runtime.errors import ModelError
from coreml_runtime.features import ArrayFeature, Interface, read_interface
from coreml_runtime.ops.table import Value

if TYPE_CHECKING:
    from google.protobuf.message import Message


Result = dict[str, Value]


@dataclass(frozen=True, kw_only=True)
class Tabular:
    """A model without layers: its message, and the function that computes it."""

    message: Message
    interface: Interface
    compute: Callable[[Message, Interface, dict[str, Value]], Result]

    def run(
        self, inputs: dict[str, object], *, states: dict[str, Tensor], record: dict[str, object] | None
    ) -> dict[str, Value]:
        """Outputs by name."""
        del states, record
        return self.compute(self.message, self.interface, inputs)

    def allows(self, feature: ArrayFeature, shape: tuple[int, ...]) -> bool:
        """What is declared."""
        return feature.allows(shape)


def _vector(inputs: dict[str, object], interface: Interface) -> Tensor:
    """All inputs in the file's order, one after the other, in double precision."""
    parts = [torch.as_tensor(inputs[name]).reshape(-1).double() for name in interface.inputs if name in inputs]
    return torch.cat(parts)


def _single(interface: Interface, value: object) -> Result:
    return {next(iter(interface.outputs)): value}


def identity(message: Message, interface: Interface, inputs: dict[str, object]) -> Result:
    """Outputs are the inputs of the same name, or in the same order."""
    del message
    names = zip(interface.outputs, interface.inputs, strict=False)
    return {name: inputs[name] if name in inputs else inputs[other] for name, other in names}


def feature_vectorizer(message: Message, interface: Interface, inputs: dict[str, object]) -> Result:
    """The named columns one after the other."""
    parts = [torch.as_tensor(inputs[column.inputColumn]).reshape(-1).double() for column in message.inputList]
    return _single(interface, torch.cat(parts))


def array_feature_extractor(message: Message, interface: Interface, inputs: dict[str, object]) -> Result:
    """The elements at the indices given."""
    indices = [int(index) for index in message.extractIndex]
    return _single(interface, _vector(inputs, interface)[indices])


def scaler(message: Message, interface: Interface, inputs: dict[str, object]) -> Result:
    """(x + shift) * scale; one value counts for all (Scaler.proto)."""
    shift = torch.tensor(list(message.shiftValue) or [0.0], dtype=torch.float64)
    scale = torch.tensor(list(message.scaleValue) or [1.0], dtype=torch.float64)
    return _single(interface, (_vector(inputs, interface) + shift) * scale)


def normalizer(message: Message, interface: Interface, inputs: dict[str, object]) -> Result:
    """Divided by the largest, the absolute or the Euclidean norm; a zero vector stays (Normalizer.proto)."""
    x = _vector(inputs, interface)
    order = {message.LMax: math.inf, message.L1: 1, message.L2: 2}[message.normType]
    size = torch.linalg.vector_norm(x, ord=order)
    return _single(interface, x / size if size > 0 else x)


def _transformed(value: Tensor, name: str) -> Tensor:
    """Logit and probit turn scores into probabilities."""
    if name == "Logit":
        return torch.sigmoid(value)
    return 0.5 * (1 + torch.erf(value / math.sqrt(2))) if name == "Probit" else value


def _scores(message: Message, interface: Interface, inputs: dict[str, object]) -> Tensor:
    """One score a row of weights."""
    x = _vector(inputs, interface)
    rows = [torch.tensor(list(row.value), dtype=torch.float64) for row in message.weights]
    if not rows or any(len(row) != len(x) for row in rows) or len(message.offset) not in (0, len(rows)):
        raise ModelError(f"a linear model of {len(rows)} rows of weights does not fit its {len(x)} inputs")
    offset = torch.tensor(list(message.offset) or [0.0] * len(rows), dtype=torch.float64)
    return torch.stack([row @ x for row in rows]) + offset


def glm_regressor(message: Message, interface: Interface, inputs: dict[str, object]) -> Result:
    """A weighted sum (GLMRegressor.proto)."""
    kind = message.DESCRIPTOR.enum_types_by_name["PostEvaluationTransform"].values_by_number
    value = _transformed(_scores(message, interface, inputs), kind[message.postEvaluationTransform].name)
    return _single(interface, value)


def glm_classifier(message: Message, interface: Interface, inputs: dict[str, object]) -> Result:
    """Probabilities: one against the reference class, or of each class against the rest (GLMClassifier.proto)."""
    kind = message.DESCRIPTOR.enum_types_by_name["PostEvaluationTransform"].values_by_number
    scores = _transformed(_scores(message, interface, inputs), kind[message.postEvaluationTransform].name)
    labels = list(getattr(message, message.WhichOneof("ClassLabels")).vector)
    if len(scores) == 1 and len(labels) == 2:
        scores = torch.cat([1 - scores, scores])
    elif message.classEncoding == message.OneVsRest and len(labels) > 2:
        scores = scores / scores.sum()
    if len(scores) != len(labels):
        raise ModelError(f"{len(scores)} scores for {len(labels)} classes")
    found: Result = {interface.predicted_feature: labels[int(scores.argmax())]}
    if interface.predicted_probabilities:
        found[interface.predicted_probabilities] = dict(zip(labels, scores.tolist(), strict=True))
    return found


KINDS: dict[str, Callable[[Message, Interface, dict[str, Value]], Result]] = {
    "identity": identity,
    "featureVectorizer": feature_vectorizer,
    "arrayFeatureExtractor": array_feature_extractor,
    "scaler": scaler,
    "normalizer": normalizer,
    "glmRegressor": glm_regressor,
    "glmClassifier": glm_classifier,
}


def compile_tabular(specification: Message) -> Tabular:
    """From a Model message of one of `KINDS`."""
    kind = specification.WhichOneof("Type")
    interface = read_interface(specification.description)
    return Tabular(message=getattr(specification, kind), interface=interface, compute=KINDS[kind])
