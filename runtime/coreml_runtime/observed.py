"""Runs an ML program with an observer, who sees every value and may put another in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from coreml_runtime.errors import PredictionError, RuntimeFailure, UnsupportedError
from coreml_runtime.executor import Execution, Step
from coreml_runtime.mlprogram import ProgramNetwork
from coreml_runtime.model import Model, State
from coreml_runtime.values import check_inputs

Observer = Callable[[Step | None, str, torch.Tensor], torch.Tensor | None]
"""Takes an operator (None for an input), a value's name and the value; returns another for what follows, or None.

Neither may change in place.
"""


def run_observed(
    model: Model, inputs: Mapping[str, object], observe: Observer, *, state: State | None = None
) -> dict[str, Any]:
    """The outputs by name, as the program holds them. Operators inside control flow are one with their outer one.

    Raises UnsupportedError for what is not a ML program.
    """
    network = model.network
    if not isinstance(network, ProgramNetwork):
        raise UnsupportedError(f"{model.path}: a {model.kind} cannot be observed, only an ML program")
    plan = network.plan if network.detailed is None else network.detailed()
    states = {} if state is None else state.tensors
    checked = check_inputs(model.inputs, inputs, allows=lambda feature, shape: network.allows(feature, shape))
    execution = Execution(generator=network.generator, states=states)
    results: dict[str, object] = {}
    with torch.inference_mode():
        frame = network.frame(plan, checked, states)
        for entry, slot in plan.inputs:
            if isinstance(frame[slot], torch.Tensor) and entry.name not in states:
                instead = observe(None, entry.name, frame[slot])
                frame[slot] = frame[slot] if instead is None else instead
        results |= {entry.name: frame[slot] for entry, slot in plan.inputs if entry.name in plan.outputs}
        for step in plan.block.steps:
            _run(step, frame, execution)
            for name, slot in step.outputs:
                if isinstance(frame[slot], torch.Tensor):
                    instead = observe(step, name, frame[slot])
                    frame[slot] = frame[slot] if instead is None else instead
                if name in plan.outputs:
                    results[name] = frame[slot]
            for slot in step.frees:
                frame[slot] = None
    return {network.renamed.get(name, name): value for name, value in results.items()}


def _run(step: Step, frame: list[object], execution: Execution) -> None:
    try:
        step.run(frame, execution)
    except RuntimeFailure:
        raise
    except Exception as error:
        raise PredictionError(f"operator {step.type} {step.name!r}: {error}") from error
