"""Executing a sealed artifact: by Apple's framework where it exists, and by our runtime everywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from builder.artifacts import PreparedModel, Sample, SealedPackage
from builder.spec import BuildSpec

Execute = Callable[[Sample], dict[str, torch.Tensor]]
"""Runs the artifact on one sample as the app gives it; returns every output as a tensor by name."""


def engines(sealed: SealedPackage, prepared: PreparedModel, spec: BuildSpec) -> list[tuple[str, Execute]]:
    """Every engine that can execute the artifact here: ours always, Apple's on a Mac (not run by the tests)."""
    found: list[tuple[str, Execute]] = [("runtime", _ours(sealed, prepared, spec))]
    if sys.platform == "darwin":
        found.append(("coreml", _apples(sealed, prepared, spec)))
    return found


def _ours(sealed: SealedPackage, prepared: PreparedModel, spec: BuildSpec) -> Execute:
    from builder import runtime

    model = runtime.load(sealed.path)
    return lambda sample: _tensors(model.predict(dict(sample.given)), prepared, spec)


def _apples(sealed: SealedPackage, prepared: PreparedModel, spec: BuildSpec) -> Execute:
    """Apple's framework; needs a Mac, so the tests do not run it."""
    from builder.stages.coreml_import import import_coremltools  # type: ignore[import-not-found,unused-ignore]

    model = import_coremltools().models.MLModel(str(sealed.path))
    return lambda sample: _tensors(model.predict(dict(sample.given)), prepared, spec)


def _tensors(predicted: Mapping[str, Any], prepared: PreparedModel, spec: BuildSpec) -> dict[str, torch.Tensor]:
    result = {}
    for index, name in enumerate(prepared.output_names):
        value = predicted[name]
        if index == 0 and spec.classifier is not None and prepared.labels is not None:
            result[name] = _scores(value, prepared.labels)
        else:
            result[name] = torch.as_tensor(value)
    return result


def _scores(probabilities: Mapping[str, float], labels: Sequence[str]) -> torch.Tensor:
    """A dictionary of probabilities as a tensor (1, classes) in the order of the labels."""
    return torch.tensor([[float(probabilities[label]) for label in labels]])
