"""Runs networks operator by operator on tensors without values, so that a trace knows where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor

from coreml_runtime.errors import PredictionError, UnsupportedError
from coreml_runtime.executor import Execution
from coreml_runtime.mlprogram import ProgramNetwork
from coreml_runtime.nn.network import NeuralNetwork
from coreml_runtime.nn.program import Step as LayerStep
from coreml_runtime.nn.program import Steps, run_steps
from coreml_runtime.ops.table import Value

PREPROCESSING = "preprocessing"
"""What happens to the inputs of a neural network before its first layer: images are scaled, arrays get more axes."""
Around = Callable[[str, Callable[[], None]], None]
"""Calls a function as the operator of a name."""

_LOOKS = ("GuardOnDataDependent", "DataDependent", "DynamicOutputShape", "PendingUnbackedSymbol")
"""In the names of what torch raises where Python code looks at a value that a trace has not."""


def operator_names(network: ProgramNetwork | NeuralNetwork) -> list[str]:
    """What the file calls the operators or layers of the outer level, in order; each once."""
    if isinstance(network, ProgramNetwork):
        return [_name_of(step) for step in network.plan.block.steps]
    return [PREPROCESSING, *(step.layer.name or step.layer.kind for step in network.steps.steps)]


def run_program(
    network: ProgramNetwork, inputs: dict[str, object], states: dict[str, Tensor], around: Around
) -> dict[str, object]:
    """The returned values of an ML program by name."""
    plan = network.plan
    frame = network.frame(plan, inputs, states)
    execution = Execution(generator=network.generator, states=states)
    for step in plan.block.steps:
        with explained(f"operator {step.type} {step.name or _name_of(step)!r}"):
            around(_name_of(step), partial(step.run, frame, execution))
        for slot in step.frees:
            frame[slot] = None
    outputs = [frame[each.index] if hasattr(each, "index") else each.value for each in plan.block.outputs]
    return dict(zip(network.named(plan.outputs), outputs, strict=True))


def run_layers(network: NeuralNetwork, inputs: dict[str, object], around: Around) -> dict[str, Value]:
    """The outputs of a neural network by name; of a classifier the scores under the name of its probabilities."""
    values: dict[str, Tensor] = {}
    with explained(PREPROCESSING):
        around(PREPROCESSING, lambda: values.update(network.values(inputs)))
    for step in network.steps.steps:
        name = step.layer.name or step.layer.kind
        with explained(f"layer {step.layer.kind} {name!r}"):
            around(name, partial(_run_layer, step, values))
        for freed in step.frees:
            values.pop(freed, None)
    outputs = {name: network.output(name, values[name]) for name in network.interface.outputs if name in values}
    if network.classes is None:
        return outputs
    scores = values[network.classes.scores].reshape(1, -1)
    return outputs | {network.interface.predicted_probabilities or network.classes.scores: scores}


def _run_layer(step: LayerStep, values: dict[str, Tensor]) -> None:
    run_steps(Steps(steps=(step,)), values, None)


def _name_of(step: Any) -> str:
    return str(step.outputs[0][0]) if step.outputs else str(step.name)


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn whatever goes wrong into an UnsupportedError that names the operator."""
    try:
        yield
    except UnsupportedError:
        raise
    except Exception as error:
        raise UnsupportedError(f"{where} cannot be exported: {_why(error)}") from error


def _why(error: BaseException) -> str:
    """The reason in a line: whatever looks at values that depend on an input says so in words of torch's own."""
    while isinstance(error, PredictionError) and error.__cause__ is not None:  # it names the operator once more
        error = error.__cause__
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(type(each).__name__.startswith(_LOOKS) for each in chain):
        return "what it does depends on the values of an input"
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
