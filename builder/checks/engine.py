"""Executing a sealed artifact: by Apple's framework where it exists, and by our runtime everywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from builder.artifacts.stages import Sample
from builder.backends import backend_of, interface
from builder.checks.states import StateCarry
from builder.checks.subject import Subject
from builder.data import levels
from builder.spec.detection_names import CANDIDATES, DETECTED
from builder.spec.outputs import ImageOutput, Output

Execute = Callable[[Sample], dict[str, torch.Tensor]]
"""Runs the artifact on one sample as the app gives it; returns every output as a tensor by name."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One way to execute the artifact here."""

    name: str
    execute: Execute
    samples: int | None = None
    """For how many samples at most, where it is slow; None for all."""


def engines(subject: Subject, kept: StateCarry | None = None) -> list[Engine]:
    """Every engine that can execute the artifact here: ours always, Apple's where this machine has it.

    A model with states keeps them from one sample to the next, and goes on with those of `kept`; without it each call
    begins with zeros.
    """
    import coreml_runtime as runtime

    states = StateCarry().artifact if kept is None else kept.artifact
    ours = runtime.load(subject.sealed.path, subject.function or None)
    state = states.setdefault("runtime", ours.make_state()) if ours.states else None
    inner = CANDIDATES if subject.prepared.suppression is not None else None
    backend, spec = backend_of(subject.sealed.format), subject.spec
    found = [
        Engine(
            name="runtime",
            execute=lambda sample: _tensors(
                ours.predict(backend.feeds(sample, spec), state=state, intermediates=inner), subject
            ),
        )
    ]
    for apples in backend.engines(subject.sealed.path, subject.function):
        found.append(Engine(name=apples.name, execute=_opened(apples, states, subject), samples=apples.samples))
    if sys.platform == "darwin" and backend.runs_on_macs:
        found.append(Engine(name="coreml", execute=_apples(subject, states)))
    return found


def _opened(engine: interface.Engine, states: dict[str, object], subject: Subject) -> Execute:
    """A backend's engine on samples, with outputs as tensors."""
    predict, backend = engine.open(states), backend_of(subject.sealed.format)
    return lambda sample: _tensors(predict(backend.feeds(sample, subject.spec)), subject)


def run_program(path: Path, subject: Subject) -> Execute:
    """Our engine for a program on its way to the artifact: alone in its file, without a detector's last stage.

    Its states begin with zeros, and go on from sample to sample.
    """
    import coreml_runtime as runtime

    model = runtime.load(path)
    state = model.make_state() if model.states else None
    names = subject.prepared.output_names
    feeds = backend_of(subject.sealed.format).feeds
    return lambda sample: named_outputs(model.predict(feeds(sample, subject.spec), state=state), names, subject)


def _apples(subject: Subject, states: dict[str, object]) -> Execute:
    """Apple's framework; needs a Mac, so the tests do not run it."""
    from builder.backends.coreml.engine import open_model, open_program

    model = open_model(subject.sealed.path, function=subject.function)
    if subject.prepared.suppression is not None:
        return _apples_detector(model, open_program(model), subject)
    if not subject.spec.state:
        return lambda sample: _tensors(model.predict(dict(sample.given)), subject)
    state = states.setdefault("coreml", model.make_state())
    return lambda sample: _tensors(model.predict(dict(sample.given), state=state), subject)


def _apples_detector(model: Any, program: Any, subject: Subject) -> Execute:
    """The pipeline, and its program alone, whose candidates the pipeline does not give."""
    return lambda sample: _tensors(
        {**program.predict(dict(sample.given)), **model.predict(dict(sample.given))}, subject
    )


def _tensors(predicted: Mapping[str, object], subject: Subject) -> dict[str, torch.Tensor]:
    """Outputs by name; of a detector the candidates of its program too."""
    detected = DETECTED if subject.prepared.suppression is not None else ()
    return named_outputs(predicted, (*subject.prepared.output_names, *detected), subject)


def named_outputs(predicted: Mapping[str, Any], names: Sequence[str], subject: Subject) -> dict[str, torch.Tensor]:
    """What a program predicted as tensors, in the order of `names`."""
    labels = subject.prepared.labels
    return {
        name: _scores(predicted[name], labels)
        if name == subject.scores and labels is not None and isinstance(predicted[name], Mapping)
        else _tensor(predicted[name], subject.spec.output.get(name))
        for name in names
    }


def _tensor(value: object, output: Output | None) -> torch.Tensor:
    """An array as a tensor; a picture as levels of 0 to 255, float32 (1, C, H, W), in the order of its channels."""
    if isinstance(output, ImageOutput):
        return levels(value, output.color_layout) if isinstance(value, Image.Image) else torch.as_tensor(value).float()
    return torch.as_tensor(value)


def _scores(probabilities: Mapping[str, float], labels: Sequence[str]) -> torch.Tensor:
    """A dictionary of probabilities as a tensor (1, classes) in the order of the labels."""
    return torch.tensor([[float(probabilities[label]) for label in labels]])
