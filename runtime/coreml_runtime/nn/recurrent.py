"""NeuralNetwork's recurrent layers, over sequences (S, B, C, 1, 1), by MIL's kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.errors import UnsupportedError
from coreml_runtime.nn.layer import Binder, Kernel, Layer
from coreml_runtime.ops import recurrent

if TYPE_CHECKING:
    from google.protobuf.message import Message

_ACTIVATIONS = {
    "linear": "linear",
    "ReLU": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "sigmoidHard": "sigmoid_hard",
    "scaledTanh": "scaled_tanh",
}
"""The six activations of recurrent layers; their parameters are written as zeros that mean the defaults."""


def _activation(message: Message, layer: Layer) -> str:
    kind = message.WhichOneof("NonlinearityType")
    if kind not in _ACTIVATIONS:
        raise UnsupportedError(f"layer {layer.name}: activation {kind!r} in a recurrent layer")
    return _ACTIVATIONS[kind]


def _stacked(layer: Layer, messages: Sequence[object], shape: tuple[int, ...]) -> Tensor:
    """The gates' weights one below the other, as MIL wants them."""
    return torch.cat([layer.weights(message, shape) for message in messages])


def _flat(x: Tensor) -> Tensor:
    """(S, B, C, 1, 1) to (S, B, C)."""
    return x.reshape(*x.shape[:3]) if x.dim() == 5 else x


def _state(given: tuple[Tensor, ...], index: int, x: Tensor, size: int) -> Tensor:
    """Initial state (B, H): an input (1, B, H, 1, 1), or zeros."""
    return given[index].reshape(-1, size) if index < len(given) else x.new_zeros(x.shape[1], size)


def _sequence(y: Tensor) -> Tensor:
    return y[..., None, None]


def _last(h: Tensor) -> Tensor:
    return h[None, :, :, None, None]


def simple_recurrent(layer: Layer) -> Kernel:
    """f(W x + R h + b)."""
    p = layer.parameters
    inputs, size = int(p.inputVectorSize), int(p.outputVectorSize)
    keywords = {
        "weight_ih": layer.weights(p.weightMatrix, (size, inputs)),
        "weight_hh": layer.weights(p.recursionMatrix, (size, size)),
        "bias": layer.weights(p.biasVector, (size,)) if p.hasBiasVector else None,
        "direction": "reverse" if p.reverseInput else "forward",
        "output_sequence": p.sequenceOutput,
        "activation": _activation(p.activation, layer),
    }

    def run(x: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        x = _flat(x)
        y, h = recurrent.rnn(x=x, initial_h=_state(given, 0, x, size), **keywords)
        return _sequence(y), _last(h)

    return run


def gru(layer: Layer) -> Kernel:
    """Update, reset and output gate; MIL's order is reset, output, update."""
    p = layer.parameters
    inputs, size = int(p.inputVectorSize), int(p.outputVectorSize)
    gates = ("reset", "output", "update")
    activations, biased = [_activation(message, layer) for message in p.activations], p.hasBiasVectors
    keywords = {
        "weight_ih": _stacked(layer, [getattr(p, f"{gate}GateWeightMatrix") for gate in gates], (size, inputs)),
        "weight_hh": _stacked(layer, [getattr(p, f"{gate}GateRecursionMatrix") for gate in gates], (size, size)),
        "bias": _stacked(layer, [getattr(p, f"{gate}GateBiasVector") for gate in gates], (size,)) if biased else None,
        "direction": "reverse" if p.reverseInput else "forward",
        "output_sequence": p.sequenceOutput,
        "recurrent_activation": activations[0],
        "activation": activations[1],
    }

    def run(x: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        x = _flat(x)
        y, h = recurrent.gru(x=x, initial_h=_state(given, 0, x, size), **keywords)
        return _sequence(y), _last(h)

    return run


_GATES = ("inputGate", "forgetGate", "outputGate", "blockInput")
"""MIL's order of an lstm's gates: input, forget, output, cell."""


def _lstm_weights(w: object, layer: Layer, suffix: str) -> dict[str, Tensor | None]:
    """One direction's weights as the keywords of MIL's lstm."""
    p = layer.parameters
    inputs, size = int(p.inputVectorSize), int(p.outputVectorSize)
    bias = None
    if p.params.hasBiasVectors:
        bias = _stacked(layer, [getattr(w, f"{gate}BiasVector") for gate in _GATES], (size,))
    if p.params.forgetBias:
        bias = torch.zeros(4 * size) if bias is None else bias
        bias[size : 2 * size] += 1.0
    peephole = None
    if p.params.hasPeepholeVectors:
        peephole = _stacked(layer, [getattr(w, f"{gate}PeepholeVector") for gate in _GATES[:3]], (size,))
    return {
        f"weight_ih{suffix}": _stacked(layer, [getattr(w, f"{gate}WeightMatrix") for gate in _GATES], (size, inputs)),
        f"weight_hh{suffix}": _stacked(layer, [getattr(w, f"{gate}RecursionMatrix") for gate in _GATES], (size, size)),
        f"bias{suffix}": bias,
        f"peephole{suffix}": peephole,
    }


def _lstm_keywords(layer: Layer, activations: Sequence[object]) -> dict[str, object]:
    """What both directions share. Zero for the clip means 50 (LSTMParams)."""
    names = [_activation(message, layer) for message in activations]
    return {
        "output_sequence": layer.parameters.params.sequenceOutput,
        "recurrent_activation": names[0],
        "cell_activation": names[1],
        "activation": names[2],
        "clip": layer.parameters.params.cellClipThreshold or 50.0,
    }


def coupled_lstm(
    *,
    x: Tensor,
    initial_h: Tensor,
    initial_c: Tensor,
    direction: str,
    output_sequence: bool,
    recurrent_activation: str,
    cell_activation: str,
    activation: str,
    clip: float,
    **weights: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """MIL's lstm but for c = (1 - i) * c + i * z: the forget gate is not used (LSTMParams)."""
    names = (recurrent_activation, cell_activation, activation)
    forward = [weights[name] for name in ("weight_ih", "weight_hh", "bias", "peephole")]
    if direction != "bidirectional":
        steps = x.flip(0) if direction == "reverse" else x
        y, h, c = _coupled_steps(steps, initial_h, initial_c, forward, names, clip)
        return (y if output_sequence else y[-1:]), h, c
    backward = [weights[f"{name}_back"] for name in ("weight_ih", "weight_hh", "bias", "peephole")]
    (h1, h2), (c1, c2) = initial_h.chunk(2, dim=1), initial_c.chunk(2, dim=1)
    y1, h1, c1 = _coupled_steps(x, h1, c1, forward, names, clip)
    y2, h2, c2 = _coupled_steps(x.flip(0), h2, c2, backward, names, clip)
    y = torch.cat([y1, y2.flip(0)], dim=2) if output_sequence else torch.cat([y1[-1:], y2[-1:]], dim=2)
    return y, torch.cat([h1, h2], dim=1), torch.cat([c1, c2], dim=1)


def _coupled_steps(
    x: Tensor, h: Tensor, c: Tensor, weights: Sequence[Any], names: tuple[str, str, str], clip: float
) -> tuple[Tensor, Tensor, Tensor]:
    """From x (S, B, I), h and c (B, H): all outputs (S, B, H) and the last h and c."""
    weight_ih, weight_hh, bias, peephole = weights
    gate, cell, output = (recurrent.ACTIVATIONS[name] for name in names)
    before, _, after = peephole.chunk(3) if peephole is not None else (0.0, 0.0, 0.0)
    transposed = weight_hh.t()

    def step(projected: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, _, o, z = (projected + h @ transposed).chunk(4, dim=1)
        i = gate(i + before * c)
        c = ((1 - i) * c + i * cell(z)).clamp(-clip, clip)
        return output(c) * gate(o + after * c), c

    outputs, (h, c) = recurrent.iterate(step, functional.linear(x, weight_ih, bias), (h, c))
    return outputs, h, c


def _lstm_kernel(layer: Layer, keywords: dict[str, Any]) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """The kernel on its weights."""
    if layer.parameters.params.coupledInputAndForgetGate:
        return partial(coupled_lstm, **keywords)
    kernel, rest = recurrent.prepare_lstm(keywords)
    return partial(kernel, **rest)


def unidirectional_lstm(layer: Layer) -> Kernel:
    """Inputs x, h, c; outputs the sequence, h, c."""
    p = layer.parameters
    size = int(p.outputVectorSize)
    keywords = _lstm_keywords(layer, p.activations) | _lstm_weights(p.weightParams, layer, "")
    keywords["direction"] = "reverse" if p.reverseInput else "forward"
    kernel = _lstm_kernel(layer, keywords)

    def run(x: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        x = _flat(x)
        h, c = _state(given, 0, x, size), _state(given, 1, x, size)
        y, h, c = kernel(x=x, initial_h=h, initial_c=c)
        return _sequence(y), _last(h), _last(c)

    return run


def bidirectional_lstm(layer: Layer) -> Kernel:
    """Inputs x, h, c and the backward h, c; outputs the sequence (S, B, 2H, 1, 1), h, c and the backward h, c."""
    p = layer.parameters
    size = int(p.outputVectorSize)
    forward, backward = p.weightParams
    keywords = _lstm_keywords(layer, p.activationsForwardLSTM)
    keywords |= _lstm_weights(forward, layer, "") | _lstm_weights(backward, layer, "_back")
    keywords["direction"] = "bidirectional"
    kernel = _lstm_kernel(layer, keywords)

    def run(x: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        x = _flat(x)
        states = [_state(given, index, x, size) for index in range(4)]
        h, c = torch.cat(states[0::2], dim=1), torch.cat(states[1::2], dim=1)
        y, h, c = kernel(x=x, initial_h=h, initial_c=c)
        return _sequence(y), *(_last(part) for part in (h[:, :size], c[:, :size], h[:, size:], c[:, size:]))

    return run


LAYERS: dict[str, Binder] = {
    "simpleRecurrent": simple_recurrent,
    "gru": gru,
    "uniDirectionalLSTM": unidirectional_lstm,
    "biDirectionalLSTM": bidirectional_lstm,
}
