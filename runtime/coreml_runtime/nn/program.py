"""Binds a network's layers to kernels and runs them, branches and loops included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from torch import Tensor

from coreml_runtime.errors import ModelError, PredictionError, RuntimeFailure, UnsupportedError
from coreml_runtime.nn import layers
from coreml_runtime.nn.layer import Binder, Kernel, Layer, Source

if TYPE_CHECKING:
    from google.protobuf.message import Message

Values = dict[str, Tensor]

# What counts as true for a branch's condition (BranchLayerParams).
_TRUE_ABOVE = 1e-6
_CONTROL = ("branch", "loop", "loopBreak", "loopContinue")


class Signal(Enum):
    """How a run of layers ended: through its last layer, or by a layer that ends a loop's turn or the loop."""

    DONE = 0
    CONTINUE = 1
    BREAK = 2


@dataclass(frozen=True, kw_only=True)
class Step:
    """One bound layer. Control layers have no kernel but networks; `frees` names what no later step reads."""

    layer: Layer
    kernel: Kernel | None = None
    nested: tuple[Steps, ...] = ()
    frees: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The steps of a network in the file's order."""

    steps: tuple[Step, ...]

    def names(self) -> Iterator[str]:
        """Every value that the steps read or write."""
        for step in self.steps:
            yield from step.layer.inputs
            yield from step.layer.outputs
            for nested in step.nested:
                yield from nested.names()
            if step.layer.kind == "loop":
                yield step.layer.parameters.conditionVar


def read_layers(messages: Iterable[Message], source: Source) -> list[Layer]:
    """The layers of a NeuralNetwork message."""
    found = []
    for message in messages:
        kind = message.WhichOneof("layer")
        found.append(
            Layer(
                name=message.name,
                kind=kind or "",
                inputs=tuple(message.input),
                outputs=tuple(message.output),
                parameters=getattr(message, kind) if kind else None,
                source=source,
            )
        )
    return found


def _inner(layer: Layer) -> list[Message]:
    """The NeuralNetwork messages inside a branch or loop, in the order that `Step.nested` keeps."""
    p = layer.parameters
    if layer.kind == "branch":
        return [p.ifBranch, p.elseBranch]
    return [p.bodyNetwork, p.conditionNetwork] if layer.kind == "loop" else []


def _missing(found: Iterable[Layer], known: Mapping[str, Binder]) -> Iterator[str]:
    for layer in found:
        if layer.kind == "custom":
            yield f"custom layer {layer.parameters.className!r} ({layer.name})"
        elif not layer.kind:
            yield f"a layer of a kind unknown to this version of the format ({layer.name})"
        elif layer.kind not in known and layer.kind not in _CONTROL:
            yield f"{layer.kind} ({layer.name})"
        for message in _inner(layer):
            yield from _missing(read_layers(message.layers, layer.source), known)


def bind_network(messages: Iterable[object], source: Source, *, inputs: Iterable[str], outputs: Iterable[str]) -> Steps:
    """Bind all layers; raises UnsupportedError naming everything that is missing before any weight is read."""
    found = read_layers(messages, source)
    missing = sorted(set(_missing(found, layers())))
    if missing:
        raise UnsupportedError("the neural network needs layers that this runtime lacks: " + "; ".join(missing))
    problems: list[str] = []
    bound = _bind(found, problems)
    if problems:
        raise UnsupportedError("; ".join(problems))
    _check_names(bound, set(inputs), tuple(outputs))
    return _with_frees(bound, frozenset(outputs))


def _bind(found: Sequence[Layer], problems: list[str]) -> Steps:
    steps = []
    for layer in found:
        nested = tuple(_bind(read_layers(message.layers, layer.source), problems) for message in _inner(layer))
        kernel = None
        if layer.kind not in _CONTROL:
            try:
                kernel = layers()[layer.kind](layer)
            except UnsupportedError as error:
                problems.append(str(error))
            except (ValueError, IndexError, KeyError, OverflowError, RuntimeError) as error:
                raise ModelError(f"layer {layer.name} ({layer.kind}): {error}") from error
            except ModelError as error:
                raise ModelError(f"layer {layer.name} ({layer.kind}): {error}") from error
        steps.append(Step(layer=replace(layer, source=Source()), kernel=kernel, nested=nested))
    return Steps(steps=tuple(steps))


def _writes(sequence: Steps) -> Iterator[str]:
    for step in sequence.steps:
        yield from step.layer.outputs
        for nested in step.nested:
            yield from _writes(nested)


def _check_names(sequence: Steps, inputs: set[str], outputs: tuple[str, ...]) -> None:
    """A layer of the outer network may read only what is an input or was written before."""
    known = set(inputs)
    for step in sequence.steps:
        unknown = [name for name in step.layer.inputs if name not in known]
        if unknown:
            where = f"layer {step.layer.name} ({step.layer.kind})"
            raise ModelError(f"{where} reads {unknown[0]!r}, which nothing before it writes")
        known.update(_writes(Steps(steps=(step,))))
    absent = [name for name in outputs if name not in known]
    if absent:
        raise ModelError(f"no layer writes the output {', '.join(absent)}")


def _with_frees(sequence: Steps, keep: frozenset[str]) -> Steps:
    """Mark at each outer step the values that nothing after it touches."""
    later, steps = set(keep), []
    for step in reversed(sequence.steps):
        touched = set(Steps(steps=(step,)).names())
        steps.append(replace(step, frees=tuple(sorted(touched - later))))
        later |= touched
    return Steps(steps=tuple(reversed(steps)))


def run_steps(sequence: Steps, values: Values, record: dict[str, object] | None) -> Signal:
    """Run the steps on `values`, which they change; every value written goes into `record` too, if given."""
    for step in sequence.steps:
        layer = step.layer
        if step.kernel is None:
            signal = _run_control(step, values, record)
            if signal is not Signal.DONE:
                return signal
        else:
            try:
                result = step.kernel(*[values[name] for name in layer.inputs])
            except RuntimeFailure:
                raise
            except Exception as error:
                shapes = ", ".join(str(tuple(values[name].shape)) for name in layer.inputs if name in values)
                where = f"layer {layer.name} ({layer.kind})"
                raise PredictionError(f"{where} failed on inputs {shapes}: {error}") from error
            for name, value in zip(layer.outputs, result if isinstance(result, tuple) else (result,), strict=False):
                values[name] = value if value.dim() else value.reshape(1)
                if record is not None:
                    record[name] = values[name]
        for name in step.frees:
            values.pop(name, None)
    return Signal.DONE


def _truth(value: Tensor) -> bool:
    return abs(float(value.reshape(-1)[0])) > _TRUE_ABOVE


def _run_control(step: Step, values: Values, record: dict[str, object] | None) -> Signal:
    layer = step.layer
    if layer.kind == "branch":
        chosen = step.nested[0 if _truth(values[layer.inputs[0]]) else 1]
        return run_steps(chosen, values, record)
    if layer.kind == "loop":
        _run_loop(step, values, record)
        return Signal.DONE
    return Signal.BREAK if layer.kind == "loopBreak" else Signal.CONTINUE


def _run_loop(step: Step, values: Values, record: dict[str, object] | None) -> None:
    """A for loop, a while loop, or both at once (LoopLayerParams, cases 1 to 3)."""
    p, (body, condition) = step.layer.parameters, step.nested
    limit = int(values[step.layer.inputs[0]].reshape(-1)[0]) if step.layer.inputs else int(p.maxLoopIterations)
    endless = bool(p.conditionVar) and not step.layer.inputs and limit == 0
    turn = 0
    while endless or turn < limit:
        if p.conditionVar:
            run_steps(condition, values, record)
            if not _truth(values[p.conditionVar]):
                return
        if run_steps(body, values, record) is Signal.BREAK:
            return
        turn += 1
