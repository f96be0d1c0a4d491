"""Warnings: what a model may be built with, though it is probably not what its author wants."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from builder.artifacts.stages import ExampleInputs, PreparedModel
from builder.errors import Diagnostic
from builder.model.states import reset_states
from builder.model.wrapper import ExportWrapper
from builder.spec import BuildSpec
from builder.spec.inputs import State

_STANDS_STILL = 2048.0
"""From here on float16 has steps of 2: adding 1 changes nothing."""

_SUM = 1e-3
"""How far probabilities in float32 may be from a sum of 1, after some thousand additions."""


def cautions(prepared: PreparedModel, examples: ExampleInputs, spec: BuildSpec) -> tuple[Diagnostic, ...]:
    """The warnings; the model is run on a few of the examples."""
    return (*_softmax_twice(prepared, examples, spec), *_counters(prepared, examples, spec))


def _softmax_twice(prepared: PreparedModel, examples: ExampleInputs, spec: BuildSpec) -> Iterator[Diagnostic]:
    """A classifier whose scores are probabilities already: after another softmax they are all but equal."""
    if spec.classifier is None or not spec.classifier.softmax:
        return
    deployed = prepared.reference
    assert isinstance(deployed, ExportWrapper), "what is prepared is deployed"
    scores = [deployed.scores(*sample.tensors.values()) for sample in examples.samples]
    if all(bool((s >= 0).all()) and bool(((s.sum(-1) - 1).abs() < _SUM).all()) for s in scores):
        yield Diagnostic(
            code="B0007",
            severity="warning",
            message="the model's scores are probabilities already (none is below 0, and their sum is 1), and the "
            "artifact applies softmax to them once more: write `classifier: {softmax: false}`",
            path=("classifier", "softmax"),
        )


def _counters(prepared: PreparedModel, examples: ExampleInputs, spec: BuildSpec) -> Iterator[Diagnostic]:
    """States that grow by steps which float16, in which Core ML keeps them, does not hold any more at 2048."""
    if not prepared.states:
        return
    module = prepared.reference
    reset_states(module, prepared.states.values())
    buffers = dict(module.named_buffers(remove_duplicate=False))
    kept = {name: buffers[path] for name, path in prepared.states.items()}
    wide = {name: buffer for name, buffer in kept.items() if buffer.dtype is torch.float32}
    with torch.no_grad():
        for buffer in wide.values():
            buffer.fill_(_STANDS_STILL)
        module(*examples.samples[0].tensors.values())
        for name, buffer in wide.items():
            still = (buffer != _STANDS_STILL) & (buffer.half() == _STANDS_STILL)
            if bool(still.any()):
                yield _counts(name, spec.state[name])
    reset_states(module, prepared.states.values())


def _counts(name: str, state: State) -> Diagnostic:
    return Diagnostic(
        code="B0008",
        severity="warning",
        message=f"state {name} (buffer {state.buffer}) grows by small steps, and Core ML keeps states in float16, in "
        "which it stands still at 2048: let the app give and take it as an input and an output, or begin again before",
        path=("state", name),
    )
