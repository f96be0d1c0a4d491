"""Executing a sealed artifact: by Apple's framework where it exists, and by our runtime everywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from builder.artifacts import Sample
from builder.checks.subject import Subject
from builder.data import levels
from builder.spec.outputs import ImageOutput, Output

Execute = Callable[[Sample], dict[str, torch.Tensor]]
"""Runs the artifact on one sample as the app gives it; returns every output as a tensor by name."""


def engines(subject: Subject) -> list[tuple[str, Execute]]:
    """Every engine that can execute the artifact here: ours always, Apple's on a Mac (not run by the tests).

    A model with states keeps them from one sample to the next, and begins with zeros each time this is called.
    """
    from builder import runtime

    ours = runtime.load(subject.sealed.path)
    state = ours.make_state() if ours.states else None
    found: list[tuple[str, Execute]] = [
        ("runtime", lambda sample: _tensors(ours.predict(dict(sample.given), state=state), subject))
    ]
    if sys.platform == "darwin":
        found.append(("coreml", _apples(subject)))
    return found


def _apples(subject: Subject) -> Execute:
    """Apple's framework; needs a Mac, so the tests do not run it."""
    import coremltools

    model = coremltools.models.MLModel(str(subject.sealed.path))
    if not subject.spec.state:
        return lambda sample: _tensors(model.predict(dict(sample.given)), subject)
    state = model.make_state()
    return lambda sample: _tensors(model.predict(dict(sample.given), state=state), subject)


def _tensors(predicted: Mapping[str, Any], subject: Subject) -> dict[str, torch.Tensor]:
    labels = subject.prepared.labels
    return {
        name: _scores(predicted[name], labels)
        if name == subject.scores and labels is not None
        else _tensor(predicted[name], subject.spec.output.get(name))
        for name in subject.prepared.output_names
    }


def _tensor(value: Any, output: Output | None) -> torch.Tensor:
    """An array as a tensor; a picture as levels of 0 to 255, float32 (1, C, H, W), in the order of its channels."""
    if isinstance(output, ImageOutput):
        return levels(value, output.color_layout)
    return torch.as_tensor(value)


def _scores(probabilities: Mapping[str, float], labels: Sequence[str]) -> torch.Tensor:
    """A dictionary of probabilities as a tensor (1, classes) in the order of the labels."""
    return torch.tensor([[float(probabilities[label]) for label in labels]])
